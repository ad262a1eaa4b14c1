import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.factories import (
    conv_unit,
    few_digits,
    make_architecture,
    make_context,
    make_images,
    make_model,
    make_quantized,
)
from tests.trainables.graph.networks import ResNet
from trainables.config import (
    MODELS,
    OBSERVERS,
    Freezing,
    PostTrainingQuant,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
)
from trainables.errors import Diverged, InfeasiblePoint
from trainables.export.packed import pack_result
from trainables.models.attach import activation_quantizers, attach_quantizers_
from trainables.models.dynamic_quantizer import DynamicQuantizer
from trainables.models.importing import captured_network
from trainables.models.quantizer import MIN_STEP, code_range
from trainables.models.unit_state import own_model
from trainables.models.units import ConvUnit, quant_points, units
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import folded, round_side_info_, side_info
from trainables.quant.kernel import TILE, is_dense
from trainables.quant.lsq import LsqQuantizer, composed, fake_quantize
from trainables.quant.observers import minmax, mse, percentile
from trainables.stages.stage import StageResult, run_stage
from trainables.train.batch_norm import reestimate_batch_norm_

BITS = range(2, 9)
FAMILIES = sorted(MODELS.names())


def reference(values: Tensor, step: Tensor, qn: int, qp: int, grad: Tensor, scale: float) -> tuple[Tensor, ...]:
    """Output and gradients by the formulas of the paper, element by element, in float64."""
    v, s, g = values.double(), step.double(), grad.double()
    ratio = (v / s).clamp(-qn, qp)
    codes = ratio.round()
    inside = (v > -qn * s) & (v < qp * s)
    below, above = v <= -qn * s, v >= qp * s
    of_step = torch.where(inside, codes - v / s, torch.zeros_like(v))
    of_step = torch.where(below, torch.full_like(v, -qn), of_step)
    of_step = torch.where(above, torch.full_like(v, qp), of_step)
    return codes * s, g * inside, (g * of_step).sum_to_size(s.shape) * scale


def check_gradients(values: Tensor, step: Tensor, qn: int, qp: int) -> None:
    torch.manual_seed(1)
    grad = torch.randn_like(values)
    values, step = values.requires_grad_(), step.requires_grad_()
    out = fake_quantize(values, step, qn, qp, 0.37)
    out.backward(grad)
    expected, of_values, of_step = reference(values.detach(), step.detach(), qn, qp, grad, 0.37)
    torch.testing.assert_close(out.detach().double(), expected, rtol=1e-6, atol=1e-7)
    assert values.grad is not None
    assert step.grad is not None
    torch.testing.assert_close(values.grad.double(), of_values, rtol=0, atol=0)
    # The kernel adds products that nearly cancel: the error is relative to their sum.
    size = float((grad * values / step).detach().abs().sum() + (grad * out / step).detach().abs().sum())
    torch.testing.assert_close(step.grad.double(), of_step, rtol=1e-5, atol=1e-6 * size)


def spread(shape: tuple[int, ...], step: Tensor, qn: int, qp: int) -> Tensor:
    """Values below, inside and above the range; some exactly at its edges and at zero."""
    torch.manual_seed(0)
    values = torch.randn(shape) * (qp + 1) * step
    flat = values.flatten(1)
    flat[:, 0::7] = (qp * step.flatten()).view(-1, 1)
    flat[:, 1::7] = (-qn * step.flatten()).view(-1, 1)
    flat[:, 2::11] = 0
    return flat.view(shape)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_with_one_step(bits: int, signed: bool, layout: torch.memory_format) -> None:
    qn, qp = code_range(bits, signed=signed)
    step = torch.tensor(19 / 256)  # so few bits that the edges of the range are exact in float32
    values = spread((4, 6, 5, 3), step, qn, qp).contiguous(memory_format=layout)
    assert ((values > qp * step).any(), (values == qp * step).any()) == (True, True)
    check_gradients(values, step, qn, qp)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (6, 1, 3, 3), (6, 20)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_with_a_step_per_channel(bits: int, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    qn, qp = code_range(bits, signed=True)
    step = (torch.tensor([3, 7, 19, 40, 65, 111]) / 256).view(-1, *[1] * (len(shape) - 1))
    values = spread(shape, step, qn, qp)
    check_gradients(values.contiguous(memory_format=layout) if len(shape) == 4 else values, step, qn, qp)


def test_gradients_of_an_activation_vector() -> None:
    check_gradients(torch.randn(8, 10).abs(), torch.tensor(0.01), *code_range(4, signed=False))


def test_gradients_with_a_gradient_of_another_layout() -> None:
    values = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    step = torch.tensor(0.2, requires_grad=True)
    out = fake_quantize(values, step, 7, 7, 1.0)
    weight = torch.randn(2, 3, 4, 5)
    (out * weight).sum().backward()
    _, of_values, of_step = reference(values.detach(), step.detach(), 7, 7, weight, 1.0)
    torch.testing.assert_close(values.grad, of_values.float())
    torch.testing.assert_close(step.grad, of_step.float(), rtol=1e-4, atol=1e-4)


def test_gradients_of_a_tensor_that_is_walked_in_tiles() -> None:
    step = torch.tensor(19 / 256)
    values = spread((3, 2, 250, 251), step, 0, 15).contiguous(memory_format=torch.channels_last)
    assert values.numel() > TILE
    check_gradients(values, step, 0, 15)


def test_gradients_of_a_tensor_with_gaps() -> None:
    values = torch.randn(6, 8)[:, ::2]
    assert not is_dense(values)
    check_gradients(values.detach(), torch.tensor(0.25), 7, 7)


@pytest.mark.parametrize("shape", [(), (6, 1, 1, 1)])
def test_a_negative_step_counts_by_its_size(shape: tuple[int, ...]) -> None:
    values, step = torch.randn(6, 5, 3, 3), torch.full(shape, 0.125)
    outs, gradients = [], []
    for sign in (1, -1):
        own = (sign * step).requires_grad_()
        out = fake_quantize(values, own, 7, 7, 1.0)
        (out * values).sum().backward()
        assert own.grad is not None
        outs.append(out)
        gradients.append(own.grad)
    assert torch.equal(*outs)
    assert torch.equal(gradients[0], -gradients[1])


@pytest.mark.parametrize("dense", [True, False])
def test_a_step_past_its_bound_is_held_and_can_come_back(dense: bool) -> None:
    values = torch.randn(6, 8)[:, :: 1 if dense else 2].abs() * 8
    held, free = torch.tensor(0.5, requires_grad=True), torch.tensor(0.25, requires_grad=True)
    outs = [fake_quantize(values, held, 0, 15, 1.0, max_step=0.25), fake_quantize(values, free, 0, 15, 1.0)]
    assert torch.equal(*outs)
    outs[0].sum().backward()
    assert held.grad is not None
    assert held.grad != 0


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
def test_values_are_those_of_torchs_own_operators(bits: int, signed: bool) -> None:
    qn, qp = code_range(bits, signed=signed)
    torch.manual_seed(bits)
    values, steps = torch.randn(7, 500, 3, 3) * qp * 0.05, torch.rand(7) * 0.1 + 1e-3
    ours = fake_quantize(values, steps.view(7, 1, 1, 1), qn, qp, 1.0)
    zeros = torch.zeros(7, dtype=torch.int32)
    assert torch.equal(ours, torch.fake_quantize_per_channel_affine(values, steps, zeros, 0, -qn, qp))
    one = fake_quantize(values, steps[0], qn, qp, 1.0)
    assert torch.equal(one, torch.fake_quantize_per_tensor_affine(values, float(steps[0]), 0, -qn, qp))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(), (6, 1, 1, 1)])
@pytest.mark.parametrize("factor", [1, -1, 2], ids=["free", "negative", "held"])
def test_the_form_for_compilers_is_the_same(bits: int, signed: bool, shape: tuple[int, ...], factor: float) -> None:
    qn, qp = code_range(bits, signed=signed)
    bound = 19 / 256
    values, step = spread((6, 5, 3, 3), torch.tensor(bound), qn, qp), torch.full(shape, factor * bound)
    grad = torch.randn_like(values)
    low, high, ceiling, scale = (torch.tensor(float(number)) for number in (-qn, qp, bound, 0.37))
    found = []
    for form in ("plain", "composed"):
        v, s = values.clone().requires_grad_(), step.clone().requires_grad_()
        if form == "plain":
            out = fake_quantize(v, s, qn, qp, 0.37, max_step=bound)
        else:
            out = composed(v, s, low, high, ceiling, scale)
        out.backward(grad)
        found.append((out.detach(), v.grad, s.grad))
    assert torch.equal(found[1][0], found[0][0])
    assert torch.equal(found[1][1], found[0][1])
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_quantizers_clip_as_the_activation_did(name: str) -> None:
    """With float activations put back in front of the quantizers, the network computes the same."""
    model, images = make_quantized(name, a_bits=4), next(make_images().batches(32))[0] * 20
    quantizers = activation_quantizers(model)
    with torch.no_grad():
        for quantizer in quantizers.values():
            quantizer.step.mul_(1e3)  # far past the limit, where there is one
    expected = model(images)
    for unit in units(model).values():
        if isinstance(unit, ConvUnit) and not isinstance(unit.activation, nn.Identity):
            unit._quantizer_clips = lambda: False  # type: ignore[method-assign]
    assert torch.equal(model(images), expected)


def test_another_bit_width_needs_no_new_graph() -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    images = next(make_images(8).batches(8))[0]
    for w_bits, a_bits in ((8, 8), (4, 8), (3, 4)):
        model = make_quantized(w_bits=w_bits, a_bits=a_bits)
        fast = torch.compile(model, backend=counter, dynamic=False)
        torch.testing.assert_close(fast(images), model(images), rtol=1e-3, atol=1e-3)
    assert counter.frame_count == 1


@pytest.mark.parametrize("bits", BITS)
def test_every_weight_in_range_receives_its_gradient(bits: int) -> None:
    unit = conv_unit(3, 8, 3, role="conv")
    quantizer = unit.weight_point.quantizer = LsqQuantizer(bits, signed=True, step_shape=(8, 1, 1, 1))
    with torch.no_grad():
        quantizer.step.copy_(unit.layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / quantizer.qp * 1.01)
    unit.eval()(torch.randn(2, 3, 6, 6)).square().sum().backward()
    assert unit.layer.weight.grad is not None
    assert (unit.layer.weight.grad != 0).all()
    assert (quantizer.step.grad != 0).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
def test_codes_are_those_of_forward(bits: int, signed: bool) -> None:
    quantizer = LsqQuantizer(bits, signed=signed, step_shape=(5, 1, 1, 1))
    with torch.no_grad():
        quantizer.step.copy_(torch.rand(5, 1, 1, 1) * 0.1 + 1e-3)
    values = torch.randn(5, 200, 3, 3) * (quantizer.qp + 1) * quantizer.step.detach()
    codes = quantizer.codes(values)
    assert torch.equal(codes * quantizer.step, quantizer(values))
    assert codes.unique().tolist() == list(range(-quantizer.qn, quantizer.qp + 1))


def test_halves_go_to_the_even_code() -> None:
    quantizer = LsqQuantizer(4, signed=True)
    assert quantizer.codes(torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])).tolist() == [-2, 0, 0, 2, 2]


def test_the_step_gradient_is_scaled_as_in_the_paper() -> None:
    values = torch.randn(4, 3, 2, 2)
    quantizer = LsqQuantizer(4, signed=True, step_shape=(4, 1, 1, 1))
    quantizer(values).sum().backward()
    _, _, of_step = reference(values, quantizer.step.detach(), 7, 7, torch.ones_like(values), 1 / math.sqrt(12 * 7))
    torch.testing.assert_close(quantizer.step.grad, of_step.float(), rtol=1e-4, atol=1e-5)


def test_a_step_that_left_the_positive_numbers_does_no_harm() -> None:
    quantizer = LsqQuantizer(4, signed=True)
    nn.init.constant_(quantizer.step, -1.0)
    assert torch.isfinite(quantizer(torch.randn(2, 3))).all()
    assert quantizer.safe_step().item() == 1.0
    assert quantizer.step.grad is None
    quantizer(torch.ones(2, 3)).sum().backward()
    assert quantizer.step.grad is not None
    nn.init.zeros_(quantizer.step)
    assert quantizer.safe_step().item() == pytest.approx(MIN_STEP)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"), [(2, True, (1, 1)), (8, True, (127, 127)), (2, False, (0, 3)), (8, False, (0, 255))]
)
def test_code_ranges(bits: int, signed: bool, expected: tuple[int, int]) -> None:
    assert code_range(bits, signed=signed) == expected


def squared_error(values: Tensor, step: Tensor, qn: int, qp: int) -> Tensor:
    s = step[:, None]
    return ((values / s).round().clamp(-qn, qp) * s - values).square().sum(dim=1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [False, True])
def test_mse_is_never_worse_than_minmax(bits: int, signed: bool) -> None:
    torch.manual_seed(bits)
    qn, qp = code_range(bits, signed=signed)
    # Rows that min-max represents exactly are the hard ones.
    rows = [torch.randn(64), torch.randn(64) ** 3, torch.full((64,), 0.37), torch.randint(0, qp + 1, (64,)) * 0.1]
    values = torch.stack(rows) if signed else torch.stack(rows).abs()
    worse = squared_error(values, mse(values, qn, qp), qn, qp)
    assert (worse <= squared_error(values, minmax(values, qn, qp), qn, qp)).all()


def test_mse_clips_a_long_tail() -> None:
    values = torch.cat([torch.randn(1000), torch.tensor([9.0])])[None]
    assert float(mse(values, 7, 7)) < 0.6 * float(minmax(values, 7, 7))


def test_minmax_covers_the_largest_magnitude() -> None:
    assert minmax(torch.tensor([[1.0, -3.5], [0.5, 0.7]]), 7, 7).tolist() == pytest.approx([0.5, 0.1])


@pytest.mark.parametrize("share", [99.9, 90.0, 100.0])
def test_the_percentile_is_of_magnitudes_above_zero(share: float) -> None:
    values = torch.randn(3, 150)
    place = math.ceil(150 * share / 100)
    expected = values.abs().sort(dim=1).values[:, place - 1] / 7
    assert torch.equal(percentile(values, 7, 7, percentile=share), expected)
    sparse = torch.cat([torch.zeros(3, 4_000), values], dim=1)
    assert torch.equal(percentile(sparse, 7, 7, percentile=share), expected)


@pytest.mark.parametrize("name", OBSERVERS.names())
def test_observers_work_row_by_row(name: str) -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 50) * torch.logspace(-3, 3, 6)[:, None]
    together = OBSERVERS[name](values, 7, 7)
    assert together.shape == (6,)
    assert torch.equal(together, torch.cat([OBSERVERS[name](row[None], 7, 7) for row in values]))


@pytest.mark.parametrize("name", OBSERVERS.names())
def test_a_row_of_zeros_has_a_positive_step(name: str) -> None:
    step = OBSERVERS[name](torch.zeros(2, 9), 7, 7)
    assert torch.isfinite(step).all()
    assert (step > 0).all()


@given(st.sampled_from(BITS), st.sampled_from(BITS), st.sampled_from(BITS), st.sampled_from(BITS))
@settings(max_examples=12)
def test_bits_by_role(w_bits: int, a_bits: int, edge_bits: int, residual_bits: int) -> None:
    scheme = QuantScheme(w_bits=w_bits, a_bits=a_bits, edge_bits=edge_bits, residual_bits=residual_bits)
    model = make_model()
    attach_quantizers_(model, scheme)
    points = quant_points(model)
    assert {p.role for p in points.values() if p.quantizer is None} == {"block_input"}
    bits = {name: point.quantizer.bits for name, point in points.items() if point.quantizer is not None}
    assert bits.pop("stem.weight_point") == edge_bits
    assert bits.pop("stem.out_point") == a_bits
    assert bits.pop("classifier.weight_point") == edge_bits
    assert bits.pop("classifier.in_point") == edge_bits
    residual = [bits.pop(name) for name in list(bits) if name.startswith("blocks.") and name.count(".") == 2]
    assert len(residual) == sum(unit.role == "projection" for unit in units(model).values())
    assert set(residual) == {max(a_bits, residual_bits)}
    assert {b for name, b in bits.items() if name.endswith("weight_point")} == {w_bits}
    assert {b for name, b in bits.items() if name.endswith("out_point")} == {a_bits}


@pytest.mark.parametrize(
    ("a_bits", "residual_bits", "narrow", "stream", "entry"),
    [
        (2, 8, True, 8, 2),
        (2, 8, False, 8, None),
        (2, 32, True, None, 2),
        (8, 8, True, 8, None),
        (16, 8, True, 16, None),
    ],
)
def test_what_a_block_reads_from_the_stream_may_be_narrower(
    a_bits: int, residual_bits: int, narrow: bool, stream: int | None, entry: int | None
) -> None:
    model = make_model("mobilenet_v2")
    attach_quantizers_(model, QuantScheme(a_bits=a_bits, residual_bits=residual_bits, narrow_block_inputs=narrow))
    points = quant_points(model)
    found = [points[f"blocks.2.{name}"].quantizer for name in ("out_point", "entry_point")]
    assert [None if quantizer is None else quantizer.bits for quantizer in found] == [stream, entry]


def test_a_block_reads_few_bits_and_the_sum_reads_the_stream() -> None:
    images = make_images(20, channels=3, size=16)
    model, _ = own_model(captured_network(ResNet(), (3, 16, 16)))
    calibrate_(model.eval(), QuantScheme(a_bits=2, narrow_block_inputs=True), images, 0)
    units_read: dict[str, int] = {}
    for name, unit in units(model).items():
        unit.register_forward_pre_hook(lambda _unit, args, name=name: units_read.update({name: len(args[0].unique())}))
    values: dict[str, int] = {}
    for name, point in quant_points(model).items():
        point.register_forward_hook(lambda _point, _args, out, name=name: values.update({name: len(out.unique())}))
    batch, _ = next(images.batches(20))
    model(batch)
    entries = [name for name, point in quant_points(model).items() if point.role == "block_input"]
    assert entries
    assert all(values[name] <= 4 < values[name.replace("entry_point", "out_point")] for name in entries)
    edges = [name for name, unit in units(model).items() if unit.role in ("first_conv", "classifier")]
    assert all(count <= 4 for name, count in units_read.items() if name not in edges)


def test_a_layer_that_is_not_there_is_infeasible() -> None:
    with pytest.raises(InfeasiblePoint, match="w_bits_by_layer names 'stm'; the layers are stem, blocks"):
        attach_quantizers_(make_model(), QuantScheme(w_bits_by_layer={"stm": 4}))


def test_residual_sums_keep_eight_bits_by_default() -> None:
    model = make_model()
    attach_quantizers_(model, QuantScheme(w_bits=2, a_bits=2))
    points = quant_points(model)
    assert points["blocks.2.out_point"].quantizer.bits == 8
    assert points["blocks.2.expand.out_point"].quantizer.bits == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_each_point_has_a_quantizer_of_its_shape(name: str) -> None:
    model = make_quantized(name)
    for unit in units(model).values():
        assert unit.weight_point.quantizer.step.shape == (
            unit.layer.weight.shape[0],
            *[1] * (unit.layer.weight.ndim - 1),
        )
        assert unit.weight_point.quantizer.qn == unit.weight_point.quantizer.qp
    for point_name, quantizer in activation_quantizers(model).items():
        assert quantizer.step.shape == ()
        assert (quantizer.qn > 0) == ("blocks" in point_name and point_name.count(".") == 2)
    assert (torch.stack([q.step.detach() for q in activation_quantizers(model).values()]) > 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_eight_bits_change_little(name: str) -> None:
    images = make_images()
    plain, quantized = make_model(name, seed=5), make_quantized(name, seed=5)
    with torch.no_grad():
        before = torch.cat([plain(batch) for batch, _ in images.batches(16)])
        after = torch.cat([quantized(batch) for batch, _ in images.batches(16)])
    assert (before - after).abs().max() < 0.25 * before.std()
    assert not torch.equal(before, after)


@pytest.mark.parametrize("observer", OBSERVERS.names())
def test_activations_that_are_not_finite_are_a_divergence(observer: str) -> None:
    model = make_model("vgg16")
    with torch.no_grad():
        model.features.get_submodule("0").bn.bias[0] = math.inf
    with pytest.raises(Diverged, match=r"the step of features\.0\.out_point is not finite"):
        calibrate_(model, QuantScheme(observer=observer), make_images(), 0)


def test_calibration_follows_its_seed() -> None:
    def steps(seed: int) -> list[float]:
        model = make_model(image_size=16)
        calibrate_(model, QuantScheme(), make_images(400, size=16), seed)
        return [q.step.item() for q in activation_quantizers(model).values()]

    assert steps(1) == steps(1)
    assert steps(1) != steps(2)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("w_bits", [3, 8])
def test_folding_keeps_the_function(name: str, w_bits: int) -> None:
    model = make_quantized(name, seed=2, w_bits=w_bits)
    scales = torch.cat([u.bn.weight.detach() for u in units(model).values() if isinstance(u, ConvUnit)])
    assert ((scales < 0).any(), (scales == 0).any(), (scales > 0).any()) == (True, True, True)
    x = torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        exact = model(x)
        round_side_info_(model)
        live, fold = model(x), folded(model)(x)
    # Rounding to float16 moves little; folding a rounded network moves at most an activation across a boundary.
    assert (live - exact).abs().max() < 0.2 * exact.std()
    assert (live - fold).abs().median() < 1e-3 * live.std()
    assert (live - fold).abs().max() < 0.1 * live.std()


@pytest.mark.parametrize("name", FAMILIES)
def test_folding_one_unit_at_a_time_is_exact_to_rounding(name: str) -> None:
    model = make_quantized(name, seed=2, w_bits=4)
    round_side_info_(model)
    flat = units(folded(model))
    for unit_name, unit in units(model).items():
        if not isinstance(unit, ConvUnit):
            continue
        unit.out_point = flat[unit_name].out_point = nn.Identity()
        x = torch.randn(4, unit.layer.in_channels, 5, 5)
        live, fold = unit(x).detach(), flat[unit_name](x).detach()
        torch.testing.assert_close(fold, live, rtol=1e-4, atol=1e-5 * float(live.abs().max()))
        assert isinstance(flat[unit_name].bn, nn.Identity)
        assert flat[unit_name].weight_point.quantizer is None


def test_a_channel_with_a_zero_scale_is_its_bias() -> None:
    model = make_quantized()
    info = side_info(model.stem)
    assert float(info.multiplier[0]) == 0
    assert info.bias[0].item() == model.stem.bn.bias[0].half().item()


def test_a_layer_of_zero_scales_folds_to_its_bias() -> None:
    model = make_quantized()
    nn.init.zeros_(model.stem.bn.weight)
    round_side_info_(model)
    assert torch.isfinite(folded(model)(torch.randn(2, 1, 8, 8))).all()


def test_side_information_is_what_the_file_can_hold() -> None:
    model = make_quantized(w_bits=4)
    round_side_info_(model)
    before = {name: side_info(unit) for name, unit in units(model).items()}
    round_side_info_(model)
    for name, unit in units(model).items():
        after = side_info(unit)
        assert torch.equal(after.multiplier, before[name].multiplier)
        torch.testing.assert_close(after.bias, before[name].bias, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(after.reference, before[name].reference, rtol=1e-6, atol=0)


def test_folding_leaves_the_model_alone() -> None:
    model = make_quantized()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_side_information_that_float16_cannot_hold_is_a_divergence(value: float) -> None:
    model = make_quantized()
    with torch.no_grad():
        model.stem.bn.bias[1] = value
    with pytest.raises(Diverged, match=r"the bias of channel 1 of stem .* beyond 65,504"):
        side_info(model.stem, "stem")
    with pytest.raises(Diverged, match="of channel 1 of stem "):
        folded(model)


def parent_of(name: str) -> StageResult:
    return StageResult(make_architecture(name), None, make_model(name).state_dict(), {})


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("bn_images", [0, 2, 129, 2048])
def test_post_training_quantization_at_any_number_of_images(name: str, bn_images: int) -> None:
    config = PostTrainingQuant(scheme=QuantScheme(w_bits=4), calibration_images=1, bn_images=bn_images)
    result = run_stage(config, make_context(few_digits(), parent_result=parent_of(name)))
    assert result.scheme == config.scheme
    assert 0 <= result.metrics["val_accuracy"] <= 1
    assert result.model().state_dict().keys() == result.state.keys()


def test_batch_norm_is_measured_on_the_whole_sample() -> None:
    model, images = make_model(), make_images(96)
    reestimate_batch_norm_(model, images.batches(32))
    inputs: list[Tensor] = []
    model.stem.bn.register_forward_hook(lambda _m, args, _o: inputs.append(args[0]))
    batch, _ = next(images.batches(96))
    model.eval()(batch)
    torch.testing.assert_close(model.stem.bn.running_mean, inputs[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert model.stem.bn.momentum == 0.1
    assert not model.training


def test_quantization_aware_training_moves_steps_and_weights() -> None:
    schedule = Schedule(epochs=1, lr=0.05, batch_size=50)
    config = QuantAwareTrain(kind="qat", scheme=QuantScheme(w_bits=3, a_bits=4), schedule=schedule, bn_images=64)
    parent = parent_of("mobilenet_v2")
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    assert len(result.history) == 1
    start = make_model()
    calibrate_(start, config.scheme, make_images(), 0)
    assert not torch.equal(result.state["stem.layer.weight"], parent.state["stem.layer.weight"])
    moved = [n for n, t in result.state.items() if n.endswith("quantizer.step") and t.ndim == 0]
    assert moved == [n for n, t in start.state_dict().items() if n.endswith("quantizer.step") and t.ndim == 0]


@pytest.mark.parametrize("quantizer", ["lsq", "ste"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_one_bit_of_a_weight_is_its_sign_and_the_mean_magnitude(quantizer: str, granularity: str) -> None:
    model = make_quantized(w_bits=1, quantizer=quantizer, granularity=granularity, observer="minmax")
    unit = units(model)["blocks.2.expand"]
    weight = unit.layer.weight.detach()
    size = weight.abs().mean((1, 2, 3), keepdim=True) if granularity == "channel" else weight.abs().mean()
    expected = torch.where(weight < 0, -size, size)
    torch.testing.assert_close(unit.weight_point(unit.layer.weight).detach(), expected)


def test_one_bit_of_an_activation_is_zero_or_one_or_a_sign() -> None:
    model = make_quantized(a_bits=1, residual_bits=1)
    codes: dict[bool, set[int]] = {False: set(), True: set()}
    for point in quant_points(model).values():
        if not point.weight and point.quantizer is not None and point.quantizer.bits == 1:
            values = torch.linspace(-3, 3, 60).reshape(1, 60)
            codes[point.signed] |= set(point.quantizer.codes(values).flatten().tolist())
    assert codes == {False: {0, 1}, True: {-1, 1}}


def test_one_bit_holds_no_weight_that_is_zero() -> None:
    model = make_model()
    with torch.no_grad():
        units(model)["blocks.2.expand"].layer.weight[0, 0] = 0
    parent = StageResult(make_architecture(), None, model.state_dict(), {})
    with pytest.raises(InfeasiblePoint, match=r"^blocks\.2\.expand has weights that are zero, and 1 bit holds no zero"):
        run_stage(PostTrainingQuant(scheme=QuantScheme(w_bits=1)), make_context(few_digits(), parent_result=parent))
    run_stage(PostTrainingQuant(scheme=QuantScheme(w_bits=2)), make_context(few_digits(), parent_result=parent))


@pytest.mark.parametrize("images", [101, 102, 104])
def test_signs_of_activations_may_flip_where_a_network_is_folded(images: int) -> None:
    scheme = QuantScheme(w_bits=1, a_bits=1, residual_bits=1)
    config = PostTrainingQuant(scheme=scheme, calibration_images=images)
    result = run_stage(config, make_context(few_digits(), parent_result=parent_of("mobilenet_v2")))
    assert len(pack_result(result, few_digits())) > 1_000


def test_weights_that_froze_at_zero_may_become_signs() -> None:
    schedule = Schedule(epochs=1, lr=0.02, batch_size=20)
    freezing = Freezing(threshold_start=0.001, threshold_end=0.001, start=0.0)
    fields = {"schedule": schedule, "freezing": freezing, "progressive_bits": (2,), "scheme": QuantScheme(w_bits=1)}
    config = QuantAwareTrain(kind="qat", **fields)
    result = run_stage(config, make_context(few_digits(), parent_result=parent_of("mobilenet_v2")))
    assert len(result.history) == 2


@pytest.mark.parametrize("bits", [{"a_bits": 8}, {"a_bits": 8, "activation_ranges": "dynamic"}])
def test_networks_of_one_bit_learn(bits: dict[str, Any]) -> None:
    schedule = Schedule(epochs=4, lr=0.02, batch_size=20)
    scheme = QuantScheme.model_validate({"w_bits": 1, **bits})
    config = QuantAwareTrain(kind="qat", scheme=scheme, schedule=schedule, guard_channels=True, freezing=Freezing())
    result = run_stage(config, make_context(few_digits(), parent_result=parent_of("mobilenet_v2")))
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.95 * losses[0]


def test_dynamic_ranges_are_those_of_the_batch() -> None:
    model = make_quantized(a_bits=2, residual_bits=2, activation_ranges="dynamic")
    quantizers = {name: p.quantizer for name, p in quant_points(model).items() if not p.weight and p.quantizer}
    assert {type(q) for q in quantizers.values()} == {DynamicQuantizer}
    assert not activation_quantizers(model)
    found = quantizers["blocks.2.expand.out_point"](torch.tensor([[-1.0, -0.4, 0.9, 2.0]]))
    assert found.tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    assert torch.equal(quantizers["blocks.2.expand.out_point"](torch.zeros(1, 4)), torch.zeros(1, 4))


def test_dynamic_ranges_leave_activations_as_they_are() -> None:
    model, x = make_model().eval(), torch.randn(4, 1, 8, 8)
    expected = model(x)
    attach_quantizers_(
        model, QuantScheme(w_bits=32, edge_bits=32, a_bits=16, residual_bits=16, activation_ranges="dynamic")
    )
    assert (model(x) - expected).norm() < 1e-3 * expected.norm()


def test_the_gradient_passes_dynamic_ranges() -> None:
    x = torch.randn(4, 7, requires_grad=True)
    DynamicQuantizer(2)(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(4, 7))
