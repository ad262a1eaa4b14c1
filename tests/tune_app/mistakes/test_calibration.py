import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tune_app.mistakes.calibration import BINS, calibration, equal_mass, equal_width

CONFIDENCES = st.one_of(st.floats(1e-6, 1), st.integers(1, BINS).map(lambda i: float(np.linspace(0, 1, BINS + 1)[i])))


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, edges of bins and ties among them, and what is right."""
    count = draw(st.integers(1, 60))
    confidence = np.array(draw(st.lists(CONFIDENCES, min_size=count, max_size=count)))
    return confidence, draw(arrays(bool, count))


def slow_error(confidence: np.ndarray, right: np.ndarray, edges: list[float]) -> float:
    """Equation 3 of Guo et al. (2017), bin by bin and image by image."""
    total = 0.0
    for low, high in itertools.pairwise(edges):
        mine = [i for i, c in enumerate(confidence) if low < c <= high]
        if mine:
            accuracy = sum(bool(right[i]) for i in mine) / len(mine)
            sure = sum(float(confidence[i]) for i in mine) / len(mine)
            total += len(mine) / len(confidence) * abs(accuracy - sure)
    return total


@given(answers())
def test_the_calibration_error_is_that_of_the_slow_loop(case: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, right = case
    found = equal_width(confidence, right)
    edges = np.linspace(0, 1, BINS + 1).tolist()
    assert found.error == pytest.approx(slow_error(confidence, right, edges), abs=1e-12)
    assert (len(found.images), int(found.images.sum())) == (BINS, len(confidence))


@given(answers(), st.randoms(use_true_random=False))
def test_bins_of_equal_mass_do_not_depend_on_the_order(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    confidence, right = case
    order = np.arange(len(confidence))
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = equal_mass(confidence, right), equal_mass(confidence[order], right[order])
    np.testing.assert_array_equal(one.images, other.images)
    assert one.error == pytest.approx(other.error)
    assert one.error == pytest.approx(slow_error(confidence, right, [0.0, *one.high.tolist()]), abs=1e-12)


def test_bins_of_equal_mass_hold_as_many_images_each() -> None:
    confidence = np.random.default_rng(0).uniform(0.2, 1, 150)
    assert equal_mass(confidence, confidence > 0.5).images.tolist() == [10] * BINS


@given(answers())
def test_no_error_is_above_one_and_a_sure_and_right_network_has_none(case: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, right = case
    for bins in (equal_width, equal_mass):
        assert 0 <= bins(confidence, right).error <= 1
        assert bins(np.ones(len(right)), np.ones(len(right), bool)).error == 0


def test_a_bin_without_images_has_no_accuracy() -> None:
    found = equal_width(np.array([0.95, 0.97]), np.array([True, False]))
    assert np.isnan(found.accuracy[:-1]).all()
    assert (found.accuracy[-1], found.confidence[-1]) == (0.5, pytest.approx(0.96))


def test_confidence_when_right_and_when_wrong() -> None:
    found = calibration(np.array([0.9, 0.95, 0.8, 0.4]), np.array([True, False, True, False]))
    assert (found.confidence_right, found.confidence_wrong) == (pytest.approx(0.85), pytest.approx(0.675))
    assert found.confident_errors == 1


def test_without_errors_there_is_no_confidence_of_them() -> None:
    found = calibration(np.array([0.9]), np.array([True]))
    assert math.isnan(found.confidence_wrong)
    assert found.confident_errors == 0
