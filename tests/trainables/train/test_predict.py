import numpy as np
import pytest
import torch

from tests.trainables.factories import CPU, SMALL, few_digits, make_images, make_model, make_quantized
from trainables.data.images import Images
from trainables.errors import ConfigError
from trainables.train.loop import EVAL_BATCH, evaluate
from trainables.train.predict import predict


@pytest.mark.parametrize("name", SMALL)
def test_what_is_predicted_is_what_is_evaluated(name: str) -> None:
    model, images = make_quantized(name), make_images(70)
    probabilities = predict(model, images)
    assert probabilities.shape == (70, 10)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == images.labels.numpy()).mean() == pytest.approx(evaluate(model, images))


def test_predictions_follow_the_order_of_the_images() -> None:
    model, data = make_model(), few_digits()
    images = Images(data.val, data.mean, data.std, CPU.torch)
    with torch.inference_mode():
        singly = [model(images.normalized(images.pixels[i : i + 1])).double().softmax(1)[0] for i in range(50)]
    np.testing.assert_allclose(predict(model.train(), images), torch.stack(singly).numpy(), rtol=1e-4, atol=1e-7)


def test_progress_counts_every_image_once() -> None:
    told: list[int] = []
    predict(make_model(), make_images(EVAL_BATCH + 7), advance=told.append)
    assert (len(told), sum(told)) == (2, EVAL_BATCH + 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), 10)
            logits[0, 3] = value
            return logits

    with pytest.raises(ConfigError, match=r"are not for 1 of 32 images: it predicts nothing"):
        predict(Broken(), make_images())
