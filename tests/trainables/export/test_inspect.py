import copy
import math

import numpy as np
import pytest
import torch

from tests.trainables.factories import inner_groups, make_architecture, make_images, of_graph, randomise_
from tests.trainables.packed_files import make_header, packed
from trainables.config import FLOAT_BITS, Architecture, QuantScheme
from trainables.costs.activation_memory import activation_elements
from trainables.costs.counts import count
from trainables.costs.size_formulas import formula_bytes
from trainables.errors import ConfigError
from trainables.export.coders.entropy import entropy_bits
from trainables.export.inspect import inspect_file
from trainables.export.packed import Header, pack, size_breakdown, unpack
from trainables.graph.graph import Graph, Node
from trainables.models.model import build, fp32_bytes
from trainables.models.units import ConvUnit, count_parameters, units
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import round_side_info_, weight_codes


def test_the_report_counts_what_is_in_the_file() -> None:
    model, content = packed(w_bits=4, side_bits=8, w_bits_by_layer={"head": FLOAT_BITS})
    report, decoded = inspect_file(content), unpack(content)
    assert report.breakdown == size_breakdown(content)
    assert sum(report.breakdown.values()) == report.size_bytes == len(content)
    assert report.architecture == decoded.header.architecture
    assert report.fp32_bytes == fp32_bytes(decoded.header.architecture)
    assert report.compression_ratio == report.fp32_bytes / len(content)
    nonzero = 0
    for layer, (name, unit) in zip(report.layers, units(model).items(), strict=True):
        codes = weight_codes(unit).numpy()
        assert (layer.name, layer.shape, layer.weights) == (name, codes.shape, codes.size)
        assert layer.nonzero == np.count_nonzero(codes)
        assert layer.bits_per_weight == 8 * layer.coded_bytes / codes.size
        assert layer.entropy_bytes == (None if name == "head" else entropy_bits(codes) / 8)
        nonzero += layer.nonzero
    assert report.weights == sum(layer.weights for layer in report.layers)
    assert report.nonzero_share == nonzero / report.weights
    coded = report.breakdown["codes"] + report.breakdown["models"]
    assert 0 <= coded - sum(layer.coded_bytes for layer in report.layers) <= 4
    assert report.bits_per_weight == 8 * coded / report.weights


def test_a_network_without_convolutions_has_a_report() -> None:
    nodes = (
        Node("flat", "reshape", ("image",), {"shape": (-1, 64)}),
        Node("hidden", "linear", ("flat",), {"weight": (16, 64), "bias": True}),
        Node("fc", "linear", ("hidden",), {"weight": (10, 16), "bias": True}),
    )
    model, architecture = of_graph(Graph((1, 8, 8), nodes, "fc"))
    scheme = QuantScheme()
    calibrate_(model, scheme, make_images(), 0)
    round_side_info_(model.eval())
    report = inspect_file(pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.3,))))
    names = ["buffers", "peak", "relu_outputs", "module_outputs"]
    assert [rule.name for rule in report.activations] == [rule.name for rule in report.own.activations] == names
    assert [layer.weights for layer in report.layers] == [1024, 160]


def test_the_ratio_to_the_entropy_leaves_float_layers_out() -> None:
    _, content = packed("vgg16", w_bits=4)
    _, mixed = packed("vgg16", w_bits=4, w_bits_by_layer={"features.0": FLOAT_BITS})
    whole, part = inspect_file(content), inspect_file(mixed)
    first = whole.layers[0]
    assert part.layers[0].coder in {"float32", "zstd"}
    assert part.layers[0].entropy_bytes is None
    assert part.entropy_bytes == pytest.approx(whole.entropy_bytes - (first.entropy_bytes or 0))
    assert whole.ratio_to_entropy is not None
    assert part.ratio_to_entropy is not None
    coded = whole.breakdown["codes"] + whole.breakdown["models"]
    assert whole.ratio_to_entropy == coded / whole.entropy_bytes
    assert part.ratio_to_entropy == pytest.approx((coded - first.coded_bytes) / part.entropy_bytes, abs=1e-3)


def test_a_network_of_the_demo_is_within_two_percent_of_its_entropy() -> None:
    _, content = packed(w_bits=4)
    report = inspect_file(content)
    assert report.ratio_to_entropy is not None
    assert 1.0 < report.ratio_to_entropy < 1.02


def test_layers_have_the_costs_of_the_network_that_was_packed() -> None:
    model, content = packed(w_bits=4, a_bits=5, w_bits_by_layer={"head": 2})
    report, counts = inspect_file(content), count(model, make_architecture())
    for layer in report.layers:
        costs = counts.layers[layer.name]
        assert (layer.bits, layer.a_bits, layer.macs) == (costs.w_bits, costs.a_bits, costs.macs)
        assert (layer.bops, layer.activation_bytes) == (costs.bops, costs.activation_bytes)
    assert (report.macs, report.bops) == (counts.macs, counts.bops)


def test_ratios_are_against_the_unpruned_network_in_float32() -> None:
    content, shape = pruned_file()
    report, full = inspect_file(content, batch=7), make_architecture()
    unpruned = build(full)
    base = count(unpruned, full)
    weights = 4 * sum(unit.layer.weight.numel() for unit in units(unpruned).values())
    assert shape.widths
    assert (report.weight_fp32_bytes, report.fp32_macs, report.fp32_bops) == (weights, base.macs, base.bops)
    assert report.weight_ratio == weights / (report.breakdown["codes"] + report.breakdown["models"])
    buffers, peak = report.activations[:2]
    assert report.activation_ratio == buffers.ratio == 7 * base.activation_bytes / buffers.size_bytes
    assert buffers.size_bytes == 7 * inspect_file(content).activations[0].size_bytes
    assert peak.fp32_bytes == 7 * base.peak_activation_bytes
    assert report.macs < report.fp32_macs
    relu = next(a for a in report.activations if a.name == "relu_outputs")
    assert relu.size_bytes == math.ceil(7 * activation_elements(build(shape), shape)["relu_outputs"] * 5 / 8)


def test_the_same_network_in_float32_stands_beside_the_unpruned_one() -> None:
    content, shape = pruned_file()
    report, same = inspect_file(content, batch=7), build(shape)
    base = count(same, shape)
    weights = 4 * sum(unit.layer.weight.numel() for unit in units(same).values())
    own = report.own
    assert (own.weight_fp32_bytes, own.fp32_macs, own.fp32_bops) == (weights, report.macs, base.bops)
    assert own.fp32_bytes == 4 * count_parameters(same) < report.fp32_bytes
    assert own.compression_ratio == own.fp32_bytes / len(content) < report.compression_ratio
    assert own.weight_ratio == weights / (report.breakdown["codes"] + report.breakdown["models"])
    assert own.activation_ratio == own.activations[0].ratio == 7 * base.activation_bytes / own.activations[0].size_bytes
    assert [a.size_bytes for a in own.activations] == [a.size_bytes for a in report.activations]
    unpruned = inspect_file(packed(w_bits=4)[1])
    assert unpruned.own.model_dump() == unpruned.model_dump(include=set(type(own).model_fields))


def test_float_activations_may_be_counted_as_if_they_were_quantized() -> None:
    """The costs are those of the same network that was quantized so; what is stored stays as it is."""
    _, content = packed(w_bits=4, a_bits=FLOAT_BITS, a_bits_by_group={"head": 5})
    (as_it_is, assumed), (model, _) = (
        (inspect_file(content, a_bits=bits) for bits in (None, 6)),
        packed(w_bits=4, a_bits=6, a_bits_by_group={"head": 5}),
    )
    counts = count(model, make_architecture())
    assert (assumed.bops, assumed.activations[0].size_bytes) == (counts.bops, counts.activation_bytes)
    assert assumed.activations[1].size_bytes == counts.peak_activation_bytes
    assert as_it_is.bops > assumed.bops
    assert (as_it_is.assumed_a_bits, assumed.assumed_a_bits) == (None, 6)
    same = {"size_bytes", "breakdown", "compression_ratio", "weight_ratio", "formulas", "fp32_bops", "macs"}
    assert as_it_is.model_dump(include=same) == assumed.model_dump(include=same)


def test_quantized_activations_have_the_bits_that_they_have() -> None:
    _, content = packed(w_bits=4, a_bits=5)
    assert inspect_file(content, a_bits=5) == inspect_file(content)
    with pytest.raises(ConfigError, match="the activations are quantized to 5 bits, not float: leave out the 8 bits"):
        inspect_file(content, a_bits=8)
    with pytest.raises(ConfigError, match="9 bits of activations: bits must be one of 1, 2"):
        inspect_file(packed(w_bits=4, a_bits=FLOAT_BITS)[1], a_bits=9)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"index_bits": 0}, {"index_bits": 17}])
def test_numbers_out_of_bounds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="choose others"):
        inspect_file(packed(w_bits=4)[1], **wrong)


def test_formulas_of_a_file_are_those_of_the_network_with_its_zeros() -> None:
    model, content = packed(w_bits=3, a_bits=4, w_bits_by_layer={"head": FLOAT_BITS})
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for unit in units(rounded).values():
            if unit.weight_point.quantizer is not None:
                unit.layer.weight.copy_(unit.weight_point(unit.layer.weight))
        for unit in units(rounded).values():
            if isinstance(unit, ConvUnit):
                unit.bn.weight.copy_(torch.ones_like(unit.bn.weight))
                unit.bn.bias.copy_(torch.ones_like(unit.bn.bias))
    expected = formula_bytes(rounded)
    reports = inspect_file(content).formulas
    assert {f.column: f.size_bytes for f in reports if f.column} == expected
    assert all(f.compression_ratio == fp32_bytes(make_architecture()) / f.size_bytes for f in reports)


def test_an_index_of_other_width_is_no_column() -> None:
    _, content = packed(w_bits=2, a_bits=4)
    three, five = ({f.name: f for f in inspect_file(content, index_bits=k).formulas} for k in (3, 5))
    assert (three["nonzero"].column, five["nonzero"].column) == ("b", "")
    assert "5-bit" in five["nonzero_fillers"].counts
    assert five["nonzero"].size_bytes > three["nonzero"].size_bytes
    assert three["nonzero_fillers"].size_bytes > three["nonzero"].size_bytes, "some gaps need fillers"
    assert five["layer_weights"] == three["layer_weights"]


def pruned_file() -> tuple[bytes, Architecture]:
    """A packed network that has lost channels; 5-bit activations."""
    full = make_architecture()
    group = inner_groups(build(full))[3]
    kept = units(build(full))[group.source].layer.weight.shape[0] // 2
    shape = full.model_copy(update={"widths": {group.name: kept}})
    scheme = QuantScheme(w_bits=4, a_bits=5)
    torch.manual_seed(0)
    model = build(shape)
    randomise_(model)
    calibrate_(model.eval(), scheme, make_images(), 0)
    round_side_info_(model, side_bits=16)
    return pack(model, Header(architecture=shape, scheme=scheme, mean=(0.5,), std=(0.3,))), shape


def test_there_is_no_ratio_without_quantized_weights() -> None:
    report = inspect_file(packed("vgg16", w_bits=FLOAT_BITS, edge_bits=FLOAT_BITS)[1])
    assert (report.ratio_to_entropy, report.entropy_bytes) == (None, 0)


def test_a_network_of_zeros_has_no_entropy_to_compare_with() -> None:
    model, _ = packed("vgg16", w_bits=4)
    with torch.no_grad():
        for unit in units(model).values():
            unit.layer.weight.zero_()
    report = inspect_file(pack(model, make_header("vgg16", w_bits=4)))
    assert (report.ratio_to_entropy, report.nonzero_share) == (None, 0)
    assert report.bits_per_weight < 0.01


def test_inspecting_draws_no_random_numbers() -> None:
    _, content = packed("vgg16", w_bits=4)
    before = torch.get_rng_state()
    inspect_file(content)
    assert torch.equal(before, torch.get_rng_state())
