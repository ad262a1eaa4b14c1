import hashlib
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.factories import make_model, make_quantized
from trainables.config import FLOAT_BITS, MODELS
from trainables.errors import Diverged
from trainables.models.model import Model
from trainables.models.units import ConvUnit, units
from trainables.quant.fold import folded, round_side_info_, side_info, weight_codes
from trainables.quant.side_info import SideInfo, in_8_bits, in_16_bits

pytestmark = pytest.mark.numeric

FAMILIES = sorted(MODELS.names())
SCHEMES = [
    {"w_bits": 4, "side_bits": 8},
    {"w_bits": 3, "granularity": "tensor"},
    {"w_bits": 3, "granularity": "tensor", "side_bits": 8},
    {"w_bits": FLOAT_BITS, "edge_bits": FLOAT_BITS},
    {"w_bits": FLOAT_BITS, "edge_bits": FLOAT_BITS, "side_bits": 8},
    {"w_bits": 4, "edge_bits": FLOAT_BITS},
]


def trained_like_(model: Model) -> Model:
    """Batch norm as training leaves it: statistics that are those of the inputs, scales between 0.3 and 2."""
    generator = torch.Generator().manual_seed(1)
    for unit in units(model).values():
        if isinstance(unit, ConvUnit):
            nn.init.constant_(unit.bn.weight, 1.0)
            with torch.no_grad():
                unit.bn.weight.copy_(0.3 + 1.7 * torch.rand(unit.bn.weight.shape, generator=generator))
                unit.bn.bias.copy_(torch.randn(unit.bn.bias.shape, generator=generator) * 0.3)
            unit.bn.momentum = None
            unit.bn.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(torch.randn(64, 1, 8, 8, generator=generator))
    return model.eval()


def coded(multiplier: Tensor, bias: Tensor, spread: Tensor) -> SideInfo:
    return in_8_bits(multiplier, lambda _: bias, spread=spread)


def identical(bias: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: bias


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_folding_a_rounded_network_keeps_its_function(name: str, scheme: dict[str, int]) -> None:
    """With float activations: quantized ones would jump by a step where they lie between two."""
    free = {"a_bits": FLOAT_BITS, "residual_bits": FLOAT_BITS, "a_bits_by_group": {"classifier": FLOAT_BITS}}
    model = trained_like_(make_quantized(name, seed=2, **{**scheme, **free}))
    side_bits = scheme.get("side_bits", 16)
    x = torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        exact = model(x)
        round_side_info_(model, side_bits=side_bits)
        live, fold = model(x), folded(model, side_bits=side_bits)(x)
    # A network of random weights passes on an error of its first layer ten times larger than a trained one.
    assert (live - exact).abs().mean() < {16: 0.04, 8: 0.4}[side_bits] * exact.std()
    assert (live - fold).abs().max() < 1e-3 * live.std()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.parametrize("w_bits", [4, FLOAT_BITS])
def test_rounding_moves_the_output_of_each_unit_by_little(name: str, side_bits: int, w_bits: int) -> None:
    model = trained_like_(make_quantized(name, seed=2, w_bits=w_bits))
    rounded = deepcopy(model)
    round_side_info_(rounded, side_bits=side_bits)
    for unit, after in zip(units(model).values(), units(rounded).values(), strict=True):
        if isinstance(unit, ConvUnit):
            unit.activation = after.activation = unit.out_point = after.out_point = nn.Identity()
            x = torch.randn(4, unit.layer.in_channels, 6, 6)
            with torch.no_grad():
                exact, live = unit(x), after(x)
            # Between integers a bias is still a whole number of steps of the sum.
            most = {32: 1e-5 if w_bits == FLOAT_BITS else 0.001, 16: 0.001, 8: 0.04}[side_bits]
            assert (live - exact).square().mean().sqrt() < most * exact.std()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_rounding_twice_changes_nothing_more(name: str, scheme: dict[str, int]) -> None:
    model = make_quantized(name, seed=1, **scheme)
    side_bits = scheme.get("side_bits", 16)
    round_side_info_(model, side_bits=side_bits)
    before = {unit: side_info(layer, side_bits=side_bits) for unit, layer in units(model).items()}
    round_side_info_(model, side_bits=side_bits)
    for unit, layer in units(model).items():
        after = side_info(layer, side_bits=side_bits)
        assert torch.equal(after.multiplier, before[unit].multiplier), unit
        for new, old in zip(after.exact(), before[unit].exact(), strict=True):
            torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.parametrize("scheme", [{"w_bits": 4}, {"w_bits": 4, "granularity": "tensor"}], ids=str)
def test_the_mean_of_a_channel_stays_when_its_multiplier_is_rounded(side_bits: int, scheme: dict[str, int]) -> None:
    """At the input's mean the folded unit gives β plus what rounding the bias costs, not the error of m times μ."""
    model = make_quantized(**scheme)
    unit = model.stem
    with torch.no_grad():
        unit.bn.running_mean.fill_(30.0)
        unit.bn.weight.copy_(torch.linspace(0.5, 2, len(unit.bn.weight)))
    info = side_info(unit, side_bits=side_bits)
    multiplier, bias = info.exact()
    step = unit.weight_point.quantizer.safe_step().detach().flatten()
    at_mean = multiplier / step * 30 + bias
    most = float(bias.abs().max())
    rounding = {8: float(info.reference[-1]) * 0.51, 16: most * 2**-11, 32: most * 2**-22}[side_bits]
    assert (at_mean - unit.bn.bias).abs().max() <= rounding


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=40), st.floats(0, 6), st.integers(0, 99))
def test_8_bits_hold_every_multiplier_to_half_a_step_of_the_grid(logs: list[float], octaves: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sign = torch.where(torch.rand(len(logs), generator=generator) < 0.5, -1.0, 1.0)
    multiplier = sign * torch.exp2(torch.tensor(logs) * octaves / 4)
    info = coded(multiplier, torch.zeros(len(logs)), torch.ones(len(logs)))
    found, _ = info.exact()
    span = float(multiplier.abs().max().log2() - multiplier.abs().min().log2())
    allowed = 2 ** (span / 126 / 2) - 1 + 1e-5
    error = (found / multiplier - 1).abs()
    # The mean of squares is what is minimized: a single channel may be further off, all together not.
    assert error.square().mean().sqrt() <= allowed
    assert torch.equal(found.sign(), multiplier.sign())


def test_8_bits_hold_zero_and_a_layer_of_zeros() -> None:
    multiplier, zeros = torch.tensor([0.0, 1.0, -0.5, 0.0]), torch.zeros(4)
    assert coded(multiplier, zeros, torch.ones(4)).exact()[0].tolist() == pytest.approx([0, 1, -0.5, 0])
    info = coded(zeros, zeros, zeros)
    assert [part.tolist() for part in info.exact()] == [[0] * 4, [0] * 4]
    assert torch.isfinite(info.reference).all()


@pytest.mark.parametrize("odd", [1e-12, 1e6])
def test_a_channel_without_influence_does_not_coarsen_the_grid(odd: float) -> None:
    """A scale of next to nothing, or a constant input: many octaves off, and the outputs do not vary."""
    multiplier = torch.cat([torch.linspace(1, 3, 63), torch.tensor([odd])])
    spread = torch.cat([torch.ones(63), torch.tensor([0.0])])
    found, _ = coded(multiplier, torch.zeros(64), spread).exact()
    assert ((found / multiplier)[:63] - 1).abs().max() < 0.005
    alike, _ = coded(multiplier, torch.zeros(64), torch.ones(64)).exact()
    assert ((alike / multiplier)[:63] - 1).abs().max() < 0.2


def test_biases_take_two_bytes_where_one_is_too_coarse() -> None:
    bias = torch.linspace(-1, 1, 32)
    narrow = coded(torch.ones(32), bias, torch.ones(32))
    assert narrow.bias.dtype == torch.int8
    torch.testing.assert_close(narrow.exact()[1], bias, rtol=0, atol=1 / 127 / 2 + 1e-6)
    bias[0] = -50
    wide = coded(torch.ones(32), bias, torch.ones(32))
    assert wide.bias.dtype == torch.int16
    torch.testing.assert_close(wide.exact()[1], bias, rtol=0, atol=50 / 32767 / 2 + 1e-6)
    assert coded(torch.ones(32), bias, torch.full((32,), 400.0)).bias.dtype == torch.int8


def test_every_processor_rounds_to_the_same_8_bits() -> None:
    """Layers of many widths and ranges, in all their bits and in those of what is decoded."""
    digest, draws = hashlib.sha256(), np.random.default_rng(0)
    for i in range(60):
        count = (1, 2, 8, 32, 96, 400)[i % 6]
        multiplier = np.ldexp(draws.random(count) - 0.5, draws.integers(-i // 6 - 1, 1, count))
        bias, spread = np.ldexp(draws.random(count) - 0.5, i % 5), draws.random(count)
        info = coded(*(torch.from_numpy(values.astype(np.float32)) for values in (multiplier, bias, spread)))
        for tensor in (info.reference, info.multiplier, info.bias, *info.exact()):
            digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == "5cbd73ab724416d7"


def test_16_bits_are_float16_relative_to_the_largest() -> None:
    multiplier, bias = torch.tensor([3e-7, -1e-7, 0.0]), torch.tensor([1.0, -2.5, 1e-3])
    info = in_16_bits(multiplier, identical(bias))
    assert info.multiplier.dtype == info.bias.dtype == torch.float16
    torch.testing.assert_close(info.exact()[0], multiplier, rtol=2**-11, atol=0)
    torch.testing.assert_close(info.exact()[1], bias, rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_a_divergence(side_bits: int, value: float) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        model = make_quantized("vgg16")
        unit = units(model)["features.1"]
        with torch.no_grad():
            getattr(unit.bn, name)[0] = value
        if name == "running_var" and value == float("inf"):
            continue  # a multiplier of 0
        with pytest.raises(Diverged):
            side_info(unit, side_bits=side_bits)


def test_8_bits_hold_a_bias_that_float16_cannot() -> None:
    model = make_quantized("vgg16")
    unit = units(model)["features.1"]
    with torch.no_grad():
        unit.bn.bias[1] = 1e6
    assert side_info(unit, side_bits=8).exact()[1][1] == pytest.approx(1e6, rel=1e-3)


def test_a_float_layer_keeps_its_weight_and_folds_its_batch_norm_alone() -> None:
    model = make_model()
    unit = model.stem
    weight = unit.layer.weight.detach().clone()
    multiplier, _ = side_info(unit).exact()
    gain = unit.bn.weight.detach() / (unit.bn.running_var + unit.bn.eps).sqrt()
    torch.testing.assert_close(multiplier, gain, rtol=1e-3, atol=1e-3 * float(gain.abs().max()))
    assert torch.equal(weight_codes(unit), weight)
    round_side_info_(model)
    assert torch.equal(unit.layer.weight, weight)
    assert torch.equal(side_info(units(model)["classifier"]).exact()[0], torch.ones(10))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_packed_of_a_rounded_network_is_what_it_computes_with(name: str, seed: int) -> None:
    """With 8 bits a first rounding may lead to another grid, and its biases to other integers: it is repeated."""
    model = trained_like_(make_quantized(name, seed=seed, w_bits=2, side_bits=8))
    round_side_info_(model, side_bits=8)
    again = deepcopy(model)
    round_side_info_(again, side_bits=8)
    for unit, twice in zip(units(model).values(), units(again).values(), strict=True):
        once, more = side_info(unit, side_bits=8), side_info(twice, side_bits=8)
        assert torch.equal(once.multiplier, more.multiplier)
        assert torch.equal(once.bias, more.bias)
        torch.testing.assert_close(once.reference, more.reference, rtol=1e-5, atol=0)
