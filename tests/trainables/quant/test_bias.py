"""Bias correction: means come back, layer by layer."""

import pytest
import torch

from tests.trainables.factories import make_images, make_model
from trainables.config import QuantScheme
from trainables.quant.bias import correct_bias_, mean_outputs
from trainables.quant.calibrate import calibrate_


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_mean_outputs_come_back(name: str) -> None:
    model, images = make_model(name), make_images(64)
    wanted = mean_outputs(model, images)
    calibrate_(model, QuantScheme(w_bits=3, a_bits=4), images, 0)
    shifted = mean_outputs(model, images)
    assert any(float((shifted[n] - wanted[n]).abs().max()) > 0.05 for n in wanted)
    correct_bias_(model, wanted, images)
    corrected = mean_outputs(model, images)
    for unit, mean in wanted.items():
        torch.testing.assert_close(corrected[unit], mean, rtol=1e-3, atol=1e-3)


def test_a_network_that_is_right_stays_as_it_is() -> None:
    model, images = make_model(), make_images(64)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    correct_bias_(model, mean_outputs(model, images), images)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-5)
