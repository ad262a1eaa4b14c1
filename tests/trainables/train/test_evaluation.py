"""All scores come from one pass, and are those of scikit-learn."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

from tests.trainables.factories import make_images, make_model
from trainables.data.images import Images, ImageSet
from trainables.results import METRICS, SCORES, Scores
from trainables.train.evaluation import score
from trainables.train.loop import EVAL_BATCH, evaluate


class Fixed(torch.nn.Module):
    """A network that gives these logits, (N, C), in the order of the images."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        self.logits, self.calls = torch.as_tensor(logits, dtype=torch.float32), list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        start = sum(self.calls)
        self.calls.append(len(images))
        return self.logits[start : start + len(images)]


def scored(logits: Any, labels: Any) -> Scores:
    """The scores of these logits, (N, C), for images of these labels, (N,)."""
    pixels = ImageSet(np.zeros((len(labels), 1, 1, 1), np.uint8), np.array(labels, np.int64))
    return score(Fixed(logits), Images(pixels, (0.0,), (1.0,), torch.device("cpu")))


@settings(deadline=None)
@given(classes=st.integers(2, 9), n=st.integers(2, 60), seed=st.integers(0, 2**32 - 1), used=st.integers(1, 9))
def test_scores_are_those_of_scikit_learn(classes: int, n: int, seed: int, used: int) -> None:
    """Some classes occur neither among the labels nor among the predictions, or in one of the two alone."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, classes)).astype(np.float32)
    labels, predicted = rng.integers(min(used, classes), size=n), logits.argmax(1)
    found, names = scored(logits, labels), range(classes)
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are missing on one side
        assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    assert found.cross_entropy == pytest.approx(log_loss(labels, probabilities, labels=names))
    if classes <= 5:
        assert found.top5_accuracy is None
    else:
        assert found.top5_accuracy == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=names))


def test_one_class_alone_is_scored_too() -> None:
    found = scored([[2.0, 1.0], [1.0, 2.0]], [0, 0])
    assert (found.accuracy, found.balanced_accuracy) == (0.5, 0.5)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)  # the class that is only predicted has an F1 of 0


def test_each_class_counts_alike() -> None:
    found = scored([[1.0, 0.0]] * 10, [0] * 9 + [1])
    assert (found.accuracy, found.balanced_accuracy) == (0.9, 0.5)
    assert found.macro_f1 == pytest.approx((18 / 19 + 0) / 2)


def test_equal_logits_are_ordered_as_the_largest_one_is_found() -> None:
    logits = [[0.0] * 7] * 7
    found = scored(logits, range(7))
    assert (found.accuracy, found.top5_accuracy) == (1 / 7, 5 / 7)
    assert found.cross_entropy == pytest.approx(np.log(7))


@pytest.mark.parametrize(("value", "near"), [(float("nan"), 0.0), (float("inf"), 0.5), (float("-inf"), 0.0)])
def test_logits_that_are_not_finite_have_no_loss_and_a_nan_is_never_near(value: float, near: float) -> None:
    logits = np.zeros((2, 7))
    logits[:, 5], logits[0, 0] = 1.0, value
    found = scored(logits, [0, 6])
    assert found.cross_entropy is None
    assert found.top5_accuracy == near


def test_a_pass_calls_the_network_once_for_each_image_and_agrees_with_training() -> None:
    images, model = make_images(EVAL_BATCH + 7), make_model(width=0.1)
    fixed = Fixed(torch.rand(len(images), 10))
    score(fixed, images)
    assert (sum(fixed.calls), len(fixed.calls)) == (len(images), 2)
    assert score(model.train(), images).accuracy == evaluate(model, images)
    assert not model.training


def test_scores_have_the_names_of_their_metrics() -> None:
    found = scored([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    assert tuple(vars(found)) == SCORES == tuple(METRICS)[:5]
    assert tuple(vars(found).values())[:4] == (1.0, None, 1.0, 1.0)
