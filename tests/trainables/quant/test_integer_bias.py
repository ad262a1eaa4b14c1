import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.factories import make_model
from trainables.config import QuantScheme
from trainables.models.attach import activation_quantizers, attach_quantizers_
from trainables.models.quantizer import code_range
from trainables.models.units import units
from trainables.quant.integer_bias import MAX_BIAS, code_gain, unit_steps, whole_bias

pytestmark = pytest.mark.numeric

FINITE = st.floats(-100, 100, width=32)


@given(bias=FINITE, multiplier=st.floats(2**-20, 1, width=32), step=st.floats(2**-12, 1, width=32))
def test_a_bias_goes_to_the_nearest_whole_number_of_units(bias: float, multiplier: float, step: float) -> None:
    tensors = (torch.tensor([bias]), torch.tensor([-multiplier]), torch.tensor(step))
    [found] = whole_bias(*tensors).tolist()
    unit = multiplier * step
    if abs(bias) < unit * MAX_BIAS:
        assert found / unit == pytest.approx(round(found / unit), rel=1e-6, abs=1e-6)
    assert abs(found - bias) <= 0.5 * unit * (1 + 1e-6) + 1e-6 * abs(bias)
    assert whole_bias(torch.tensor([found]), *tensors[1:]).tolist() == [found]


def test_biases_without_units_stay() -> None:
    bias = torch.tensor([0.123, -4.56])
    assert whole_bias(bias, torch.ones(2), None) is bias
    assert torch.equal(whole_bias(bias, torch.zeros(2), torch.tensor(0.1)), bias)
    assert torch.equal(whole_bias(bias, torch.full((2,), 1e-12), torch.tensor(1e-3)), bias)


@pytest.mark.parametrize("bits", range(2, 9))
def test_stretched_codes_stay_within_7_bits_unless_they_have_8(bits: int) -> None:
    largest = code_range(bits, signed=True)[1] * code_gain(bits)
    assert largest <= (127 if bits == 8 else 63)
    assert 2 * largest >= 63


def steps_of(name: str, **scheme: object) -> tuple[dict[str, float | None], dict[str, float]]:
    """Unit steps by unit, and the steps of all activation quantizers, all of them different."""
    model = make_model(name)
    attach_quantizers_(model, QuantScheme.model_validate(scheme))
    quantizers = activation_quantizers(model)
    with torch.no_grad():
        for i, quantizer in enumerate(quantizers.values()):
            quantizer.step.fill_((i + 1) / 4096)
    assert list(unit_steps(model)) == list(units(model))
    found = {unit: None if step is None else float(step) for unit, step in unit_steps(model).items()}
    return found, {point: float(q.step.detach()) for point, q in quantizers.items()}


def test_the_step_is_that_of_the_input_over_the_gain() -> None:
    found, points = steps_of("mobilenet_v2", w_bits=4)
    assert found["stem"] is None
    assert found["blocks.0.depthwise"] == points["stem.out_point"] / 8
    assert found["blocks.2.expand"] == points["blocks.1.out_point"] / 8
    assert found["blocks.2.project"] == points["blocks.2.depthwise.out_point"] / 8
    assert found["head"] == points["blocks.3.out_point"] / 8
    assert found["classifier"] == points["classifier.in_point"]


def test_a_block_input_of_its_own_bits_gives_the_step() -> None:
    found, points = steps_of("mobilenet_v2", w_bits=4, a_bits=4, narrow_block_inputs=True)
    assert found["blocks.2.expand"] == points["blocks.1.entry_point"] / 8
    found, points = steps_of("mobilenet_v2", w_bits=4, a_bits=4, residual_bits=32, narrow_block_inputs=True)
    assert "blocks.1.out_point" not in points
    assert found["blocks.2.expand"] == points["blocks.1.entry_point"] / 8
    found, _ = steps_of("mobilenet_v2", w_bits=4, a_bits=4, residual_bits=32)
    assert found["blocks.2.expand"] is None


def test_pooling_keeps_the_step() -> None:
    found, points = steps_of("vgg16", w_bits=8)
    assert found["features.3"] == points["features.1.out_point"]
    assert found["classifier"] == points["classifier.in_point"]


def test_float_and_wide_layers_have_none() -> None:
    found, _ = steps_of("vgg16", w_bits=4, a_bits=16)
    assert {name for name, step in found.items() if step is not None} == {"classifier"}
    found, _ = steps_of("vgg16", w_bits=12)
    assert {name for name, step in found.items() if step is not None} == {"classifier"}
    found, points = steps_of("mobilenet_v2", w_bits=4, a_bits_by_group={"expansion": 32, "projection": 16})
    assert found["blocks.2.depthwise"] is None
    assert found["blocks.2.expand"] is None
    assert found["blocks.2.project"] == points["blocks.2.depthwise.out_point"] / 8
