import numpy as np
import pytest
import torch

from tests.trainables.packed_files import make_header, packed
from trainables.config import FLOAT_BITS
from trainables.export.entropy import entropy_bits
from trainables.export.inspect import inspect_file
from trainables.export.packed import pack, size_breakdown, unpack
from trainables.models.model import fp32_bytes
from trainables.models.units import units
from trainables.quant.fold import weight_codes


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
