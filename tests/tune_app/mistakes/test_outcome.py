import math

import numpy as np
import pytest

from tests.tune_app.mistakes.factories import make_probabilities
from tune_app.mistakes.outcome import compare, judge, mcnemar

LABELS = np.random.default_rng(0).integers(0, 4, 80)
OTHER = judge(LABELS, make_probabilities(LABELS, 4, skill=1.5, seed=1))
REFERENCE = judge(LABELS, make_probabilities(LABELS, 4, skill=2.5, seed=2))


def test_an_outcome_is_the_largest_probability_of_each_image() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.4, 0.35, 0.25]])
    outcome = judge(np.array([1, 2, 2, 1]), probabilities)
    assert outcome.predicted.tolist() == [1, 0, 2, 0]
    assert outcome.confidence.tolist() == [0.5, 0.6, 0.8, 0.4]
    assert outcome.accuracy == 0.5
    assert outcome.errors.tolist() == [1, 3]


def test_errors_fall_in_confidence() -> None:
    assert set(OTHER.errors.tolist()) == set(np.flatnonzero(~OTHER.right).tolist())
    assert (np.diff(OTHER.confidence[OTHER.errors]) <= 0).all()


def test_a_change_is_what_a_loop_over_the_images_finds() -> None:
    change = compare(LABELS, REFERENCE, OTHER)
    images = list(zip(LABELS, REFERENCE.predicted, OTHER.predicted, strict=True))
    wrong = [i for i, (label, before, now) in enumerate(images) if before == label != now]
    right = [i for i, (label, before, now) in enumerate(images) if now == label != before]
    assert wrong
    assert right
    assert sorted(change.newly_wrong.tolist()) == wrong
    assert sorted(change.newly_right.tolist()) == right
    assert change.broken.tolist() == [sum(LABELS[i] == c for i in wrong) for c in range(4)]
    assert change.repaired.tolist() == [sum(LABELS[i] == c for i in right) for c in range(4)]
    assert change.agreement == pytest.approx(np.mean([before == now for _, before, now in images]))
    assert change.accuracy == pytest.approx((len(right) - len(wrong)) / len(LABELS))


def test_a_class_changes_by_what_was_repaired_less_what_broke() -> None:
    change = compare(LABELS, REFERENCE, OTHER)
    np.testing.assert_allclose(change.class_accuracy, (change.repaired - change.broken) / np.bincount(LABELS))


def test_what_changed_is_shown_the_most_confident_first() -> None:
    change = compare(LABELS, REFERENCE, OTHER)
    for places in (change.newly_wrong, change.newly_right):
        assert (np.diff(OTHER.confidence[places]) <= 0).all()


@pytest.mark.parametrize(("broken", "repaired"), [(0, 0), (5, 0), (0, 5), (9, 3), (4, 4), (7, 8)])
def test_mcnemars_test_is_the_exact_one(broken: int, repaired: int) -> None:
    changes, rarer = broken + repaired, min(broken, repaired)
    tail = sum(math.comb(changes, k) for k in range(rarer + 1)) / 2**changes
    assert mcnemar(broken, repaired) == pytest.approx(min(1.0, 2 * tail))
