import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from torch import nn

from tests.trainables.factories import make_architecture, make_model, make_prune
from tests.trainables.packed_files import freshly_packed, make_header, packed, parts, same
from tests.trainables.packed_golden import FOLDER, golden_header, golden_network
from trainables.config import FLOAT_BITS, MODELS, Architecture, ModelConfig, QuantScheme
from trainables.errors import ConfigError, CorruptFile, Diverged
from trainables.export import header as header_file
from trainables.export.coders.coder import LayerSpec, coders, decode, encode
from trainables.export.packed import PARTS, Header, pack, size_breakdown, unpack
from trainables.models.attach import activation_quantizers, attach_quantizers_
from trainables.models.model import build
from trainables.models.units import units
from trainables.prune.channels import prune_channels
from trainables.prune.plan import plan_channels
from trainables.quant.fold import folded, round_side_info_, side_info, weight_codes
from trainables.quant.integer_bias import unit_steps, whole_bias

FAMILIES = sorted(MODELS.names())
FLOAT = FLOAT_BITS
SCHEMES: dict[str, dict[str, Any]] = {
    **{f"W{bits}": {"w_bits": bits, "a_bits": 10 - bits, "edge_bits": bits} for bits in range(2, 9)},
    "W1": {"w_bits": 1, "a_bits": 1, "edge_bits": 1, "residual_bits": 1},
    "a bit per weight, a step per tensor": {"w_bits": 1, "granularity": "tensor", "quantizer": "ste"},
    "dynamic ranges": {"w_bits": 4, "a_bits": 4, "activation_ranges": "dynamic"},
    "block inputs of 3 bits": {"w_bits": 3, "a_bits": 3, "narrow_block_inputs": True},
    "block inputs of 3 bits, a float stream": {
        "w_bits": 3,
        "a_bits": 3,
        "residual_bits": FLOAT,
        "narrow_block_inputs": True,
    },
    "W12": {"w_bits": 12},
    "W16A16": {"w_bits": 16, "a_bits": 16, "edge_bits": 16},
    "float weights": {"w_bits": FLOAT, "edge_bits": FLOAT},
    "float activations": {"a_bits": FLOAT, "residual_bits": FLOAT, "a_bits_by_group": {"classifier": FLOAT}},
    "float everywhere": {
        "w_bits": FLOAT,
        "edge_bits": FLOAT,
        "a_bits": FLOAT,
        "a_bits_by_group": {"classifier": FLOAT},
    },
    "float edges, a step per tensor": {"w_bits": 4, "edge_bits": FLOAT, "granularity": "tensor"},
    "a step per tensor": {"w_bits": 3, "granularity": "tensor"},
    "8 bits of side information": {"w_bits": 4, "a_bits": 4, "side_bits": 8},
    "8 bits, a step per tensor": {"w_bits": 2, "edge_bits": 4, "side_bits": 8, "granularity": "tensor"},
    "8 bits, float weights": {"w_bits": FLOAT, "edge_bits": FLOAT, "side_bits": 8},
}


@pytest.fixture(scope="module")
def content() -> bytes:
    return packed(w_bits=3, a_bits=4)[1]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("case", SCHEMES)
def test_the_decoded_network_is_the_folded_one_bit_for_bit(name: str, case: str) -> None:
    scheme = SCHEMES[case]
    model, file = packed(name, **scheme)
    x = torch.randn(16, 1, 8, 8)
    with torch.no_grad():
        expected = folded(model, side_bits=scheme.get("side_bits", 16))(x)
        assert torch.equal(unpack(file).network()(x), expected)
    assert expected.std() > 0
    assert unpack(file).header.scheme == QuantScheme(**scheme)


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_a_pruned_network_goes_through_the_file(side_bits: int) -> None:
    parent = make_model()
    model, architecture = prune_channels(parent, make_architecture(), plan_channels(parent, make_prune(0.5, head=True)))
    scheme = QuantScheme(w_bits=4, side_bits=side_bits)
    attach_quantizers_(model, scheme)
    round_side_info_(model.eval(), side_bits=side_bits)
    file = pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.3,)))
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(unpack(file).network()(x), folded(model, side_bits=side_bits)(x))
    assert unpack(file).header.architecture == architecture
    assert architecture.widths


@pytest.mark.parametrize("coder", ["auto", "rans", "zstd", "bits"])
def test_every_choice_of_coder_stores_the_same_network(coder: Any, content: bytes) -> None:
    _, file = packed(w_bits=3, a_bits=4, coder=coder)
    assert same(unpack(file), unpack(content))
    assert len(file) >= len(content)
    families = {coders()[kind].family for kind in unpack(file).kinds}
    assert coder == "auto" or families == {coder}


@pytest.mark.parametrize("case", SCHEMES)
def test_codes_are_the_quantizers_in_the_smallest_type_that_holds_them(case: str) -> None:
    model, file = packed("vgg16", **SCHEMES[case])
    decoded = unpack(file)
    for unit, layer, codes in zip(units(model).values(), decoded.layers, decoded.codes, strict=True):
        expected = np.float32 if layer.bits == FLOAT else np.int8 if layer.bits <= 8 else np.int16
        assert (codes.dtype, codes.shape) == (expected, tuple(unit.layer.weight.shape))
        assert np.array_equal(codes, weight_codes(unit).numpy())
    assert [layer.name for layer in decoded.layers] == list(units(model))
    steps = [q.safe_step().item() for q in activation_quantizers(model).values()]
    assert decoded.steps.tolist() == steps


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_scales_are_what_the_decoded_network_computes_with(side_bits: int) -> None:
    model, file = packed(w_bits=4, side_bits=side_bits)
    decoded = unpack(file)
    network = decoded.network()
    steps = unit_steps(model)
    for i, (name, ours) in enumerate(units(model).items()):
        unit, (multiplier, bias) = units(network)[name], decoded.scales(i)
        assert multiplier.dtype == bias.dtype == np.float32
        weight = decoded.codes[i].astype(np.float32) * multiplier.reshape(-1, *[1] * (decoded.codes[i].ndim - 1))
        assert np.array_equal(weight, unit.layer.weight.detach().numpy())
        whole = whole_bias(torch.from_numpy(bias), torch.from_numpy(multiplier), steps[name])
        assert torch.equal(whole, unit.layer.bias)
        assert torch.equal(decoded.side_info[i].multiplier, side_info(ours, side_bits=side_bits).multiplier)


def test_bits_per_layer_are_in_the_file() -> None:
    by_layer = {"blocks.3.expand": 2, "classifier": 16, "stem": FLOAT}
    _, file = packed(w_bits=4, w_bits_by_layer=by_layer)
    decoded = unpack(file)
    assert decoded.header.scheme.w_bits_by_layer == by_layer
    bits = {layer.name: layer.bits for layer in decoded.layers}
    assert {name: bits[name] for name in by_layer} == by_layer
    assert set(bits.values()) == {2, 4, 16, FLOAT}


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_a_dead_layer_and_codes_that_are_all_zero_go_through_the_file(side_bits: int) -> None:
    model, _ = packed(w_bits=4, side_bits=side_bits)
    layers = units(model)
    with torch.no_grad():
        nn.init.zeros_(layers["blocks.1.expand"].bn.weight)
        nn.init.zeros_(layers["blocks.2.depthwise"].layer.weight)
        layers["blocks.3.project"].layer.weight[1] = 0
        nn.init.zeros_(layers["classifier"].layer.bias)
    round_side_info_(model, side_bits=side_bits)
    file = pack(model, make_header(w_bits=4, side_bits=side_bits))
    decoded = unpack(file)
    names = [layer.name for layer in decoded.layers]
    assert not decoded.scales(names.index("blocks.1.expand"))[0].any()
    assert not decoded.codes[names.index("blocks.2.depthwise")].any()
    assert decoded.coded_bits[names.index("blocks.2.depthwise")] == 16
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(decoded.network()(x), folded(model, side_bits=side_bits)(x))


def test_packing_is_in_evaluation_mode_and_leaves_the_model_alone() -> None:
    model, file = packed()
    assert not unpack(file).network().training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pack(model, unpack(file).header)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_decoding_twice_gives_networks_that_share_nothing(content: bytes) -> None:
    decoded = unpack(content)
    first, second = decoded.network(), decoded.network()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(unit.layer.weight.any() for unit in units(second).values())
    assert all(codes.any() for codes in decoded.codes)


@pytest.mark.numeric
def test_a_channels_last_network_packs_to_the_same_bytes() -> None:
    model, file = packed()
    assert pack(model.to(memory_format=torch.channels_last), unpack(file).header) == file


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.numeric
def test_packing_is_deterministic(side_bits: int) -> None:
    first, second = (freshly_packed("mobilenet_v2", w_bits=3, side_bits=side_bits)[1] for _ in range(2))
    assert first == second


def test_a_fresh_process_packs_the_same_bytes_and_decodes_the_same_network(tmp_path: Path) -> None:
    content = packed("vgg16", w_bits=3, a_bits=4)[1]
    (tmp_path / "model.mbq").write_bytes(content)
    program = (
        "import sys, hashlib, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from tests.trainables.packed_files import packed; from trainables.export.packed import unpack\n"
        "net = unpack(Path(sys.argv[1]).read_bytes()).network()\n"
        "logits = net(torch.linspace(-1, 1, 128).view(2, 1, 8, 8)).detach().numpy().tobytes()\n"
        "print(hashlib.sha256(packed('vgg16', w_bits=3, a_bits=4)[1]).hexdigest(), hashlib.sha256(logits).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.mbq")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    logits = unpack(content).network()(torch.linspace(-1, 1, 128).view(2, 1, 8, 8)).detach().numpy().tobytes()
    assert found.stdout.split() == [hashlib.sha256(content).hexdigest(), hashlib.sha256(logits).hexdigest()]


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_breakdown_sums_to_the_length(side_bits: int) -> None:
    _, file = packed(w_bits=3, a_bits=4, side_bits=side_bits)
    breakdown, decoded = size_breakdown(file), unpack(file)
    assert sum(breakdown.values()) == len(file)
    assert set(breakdown) == {*PARTS, "header"}
    channels, wide = sum(layer.shape[0] for layer in decoded.layers), parts(file)[0]["wide_biases"]
    extra = sum(decoded.layers[i].shape[0] for i in wide)
    sizes = {
        32: (4 * channels, 4 * channels, 4),
        16: (2 * channels, 2 * channels, 4),
        8: (channels, channels + extra, 12),
    }[side_bits]
    assert (breakdown["multipliers"], breakdown["biases"]) == sizes[:2]
    assert breakdown["references"] == sizes[2] * len(decoded.layers)
    assert breakdown["steps"] == 4 * len(activation_quantizers(decoded.network()))
    coded = breakdown["codes"] + breakdown["models"]
    assert 0 <= 8 * coded - sum(decoded.coded_bits) <= 32
    assert coded < sum(layer.count * layer.bits for layer in decoded.layers) / 8


def full_network(side_bits: int) -> tuple[Architecture, QuantScheme]:
    """Width 1.0, pruned in all groups, with bits for every layer."""
    bare = Architecture(model=ModelConfig(), classes=100, channels=3, image_size=32)
    with torch.device("meta"):
        model = build(bare)
    widths = {group.name: min(200 + i, group.channels - 1) for i, group in enumerate(model.prune_groups())}
    by_layer = {name: (3, 4, 5, 12)[i % 4] for i, name in enumerate(units(model))}
    return bare.model_copy(update={"widths": widths}), QuantScheme(side_bits=side_bits, w_bits_by_layer=by_layer)


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_the_header_of_a_full_network_pruned_everywhere_is_below_2_kb(side_bits: int, whole_mobilenet: None) -> None:
    torch.manual_seed(0)
    architecture, scheme = full_network(side_bits)
    model = build(architecture).eval()
    attach_quantizers_(model, scheme)
    for unit in units(model).values():
        if hasattr(unit, "bn"):
            nn.init.constant_(unit.bn.bias, 100)  # int16 biases everywhere: the longest header
    header = Header(
        architecture=architecture,
        scheme=scheme,
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
    )
    file = pack(model, header, coder="rans")
    assert unpack(file).header == header
    assert len(architecture.widths) == 17 + 8  # the insides of blocks and the head, and the residual streams
    assert size_breakdown(file)["header"] < 2_000
    assert len(load(file)) == 6


def test_side_information_that_is_not_finite_is_a_divergence() -> None:
    for side_bits in (8, 16, 32):
        model, file = packed(side_bits=side_bits)
        with torch.no_grad():
            model.stem.bn.weight[0] = float("nan")
        with pytest.raises(Diverged):
            pack(model, unpack(file).header)


@pytest.mark.parametrize("bits", [4, 16, FLOAT])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_a_divergence(bits: int, value: float) -> None:
    model, file = packed(edge_bits=bits)
    with torch.no_grad():
        model.stem.layer.weight[0, 0, 0, 0] = value
    with pytest.raises(Diverged, match="stem"):
        pack(model, unpack(file).header)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_a_divergence(value: float) -> None:
    model, file = packed("vgg16")
    name, quantizer = list(activation_quantizers(model).items())[1]
    with torch.no_grad():
        quantizer.step.fill_(value)
    with pytest.raises(Diverged, match=f"the step of {name} is not finite"):
        pack(model, unpack(file).header)


def test_more_weights_than_a_file_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = packed("vgg16")
    monkeypatch.setattr(header_file, "MAX_WEIGHTS", 1_000)
    with pytest.raises(ConfigError, match=r"at most 1,000 weights"):
        pack(model, make_header("vgg16"))
    with pytest.raises(CorruptFile, match=r"at most 1,000 weights"):
        unpack(file)


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.numeric
def test_the_golden_file_is_packed_and_decoded_as_ever(side_bits: int) -> None:
    file = (FOLDER / f"side{side_bits}.mbq").read_bytes()
    network, decoded = golden_network(side_bits), unpack(file)
    again = pack(network, golden_header(side_bits))
    (spec, arrays), (old_spec, old_arrays) = parts(again), parts(file)
    assert all(np.array_equal(arrays[name], old_arrays[name]) for name in PARTS)
    for field in ("format", "version", "kinds", "words", "wide_biases", "weights_sha256"):
        assert spec[field] == old_spec[field]
    assert decoded.header == golden_header(side_bits)
    assert {coders()[kind].kind for kind in decoded.kinds} == {0, 1, 2, 3, 5, 6}
    for codes, unit in zip(decoded.codes, units(network).values(), strict=True):
        assert np.array_equal(codes, weight_codes(unit).numpy())
    x = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(decoded.network()(x), folded(network, side_bits=side_bits)(x))


GOLDEN_STATE = {8: "a7859ba9a0b04a4f", 16: "b49735eab6c416ea", 32: "0608866d6650814f"}


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.numeric
def test_the_golden_network_is_rounded_to_the_same_bits_everywhere(side_bits: int) -> None:
    """Each root and quotient of batch norm is in them: a processor that rounds one differently shows here first."""
    digest = hashlib.sha256()
    for tensor in golden_network(side_bits).state_dict().values():
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == GOLDEN_STATE[side_bits]


GOLDEN_SHA256 = {
    8: "b57e84725a03acdc9c79d173ffe341a233e54587746fc1f7d914e9a9b75a432f",
    16: "6be411fba61634e0ac98fb33895c75246b4f85f29185f67c9ca76857f3234497",
    32: "ac1435387045e462f0d7425520710dcda6f71f2af660116a2ef9e78061438755",
}
GOLDEN_SCALES = {8: (7.071141489, 53.190764133), 16: (7.079796993, 53.222061157), 32: (7.079890620, 53.219619367)}
"""Sums of all multipliers and of all biases, without their signs."""


@pytest.mark.parametrize("side_bits", [8, 16, 32])
def test_the_golden_file_did_not_change(side_bits: int) -> None:
    """A new version of the format gets a new file; this one stays readable or is refused by its version."""
    file = (FOLDER / f"side{side_bits}.mbq").read_bytes()
    assert hashlib.sha256(file).hexdigest() == GOLDEN_SHA256[side_bits]
    decoded = unpack(file)
    scales = [decoded.scales(i) for i in range(len(decoded.layers))]
    found = [float(np.abs(np.concatenate(column)).sum(dtype=np.float64)) for column in zip(*scales, strict=True)]
    assert found == pytest.approx(GOLDEN_SCALES[side_bits], rel=1e-6)


def test_a_sign_that_is_zero_is_refused() -> None:
    layers = [LayerSpec("stem", (3, 4), 1)]
    good = encode(layers, [np.where(np.arange(12) % 3, 1, -1).astype(np.int8)])
    assert decode(layers, good)[0][0].all()
    bad = encode([LayerSpec("stem", (3, 4), 2)], [np.zeros(12, np.int8)], choice="rans")
    with pytest.raises(CorruptFile, match="a sign of stem is zero"):
        decode(layers, bad)
