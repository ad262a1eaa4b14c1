import numpy as np
import pytest

from tune_app.frontier.hypervolume_gain import PROBES, improvement
from tune_app.frontier.pareto import hypervolume


def by_definition(front: np.ndarray, reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    before = hypervolume(front, reference)
    return np.array([hypervolume(np.r_[front, row[None]], reference) - before for row in samples])


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_volume_with_the_sample_less_the_volume_without(objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, samples = rng.random((12, objectives)) * 1.2, rng.random((40, objectives)) * 1.3
    reference = np.ones(objectives)
    assert improvement(front, reference, samples) == pytest.approx(by_definition(front, reference, samples), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_three_objectives_are_estimated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, samples = 0.3 + 0.7 * rng.random((6, 3)), rng.random((20, 3))
    reference = np.ones(3)
    exact = by_definition(front, reference, samples)
    assert improvement(front, reference, samples) == pytest.approx(exact, abs=4 * (0.25 / PROBES) ** 0.5)
    assert improvement(front, reference, samples, seed=5).tolist() != improvement(front, reference, samples).tolist()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_an_empty_front_leaves_the_whole_box(objectives: int) -> None:
    reference, empty = np.ones(objectives), np.empty((0, objectives))
    samples = np.array([[0.0] * objectives, [1.5] * objectives])
    assert improvement(empty, reference, samples) == pytest.approx([1.0, 0.0])


def test_the_shape_is_that_of_the_samples() -> None:
    assert improvement(np.empty((0, 2)), np.ones(2), np.zeros((4, 5, 2))).shape == (4, 5)


def test_more_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        improvement(np.empty((0, 4)), np.ones(4), np.zeros((1, 4)))
