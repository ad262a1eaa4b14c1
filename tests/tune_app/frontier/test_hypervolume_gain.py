import numpy as np
import pytest

from tune_app.frontier.hypervolume_gain import free_space
from tune_app.frontier.pareto import hypervolume


def by_definition(front: np.ndarray, reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    before = hypervolume(front, reference)
    return np.array([hypervolume(np.r_[front, row[None]], reference) - before for row in samples])


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_gain_is_the_volume_with_the_sample_less_the_volume_without(objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, samples = rng.random((12, objectives)) * 1.2, rng.random((40, objectives)) * 1.3
    reference = np.ones(objectives)
    gains = free_space(front, reference).gains(samples)
    assert gains == pytest.approx(by_definition(front, reference, samples), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_share_costs_are_cut_like_others(seed: int) -> None:
    """Sizes and counts are whole numbers, so ties are common."""
    rng = np.random.default_rng(seed)
    front, samples = rng.integers(0, 5, (15, 3)).astype(float), rng.integers(0, 5, (40, 3)).astype(float)
    reference = np.full(3, 4.0)
    gains = free_space(front, reference).gains(samples)
    assert gains == pytest.approx(by_definition(front, reference, samples), abs=1e-12)


def test_an_expected_gain_is_the_product_of_expected_sides() -> None:
    rng = np.random.default_rng(0)
    space = free_space(rng.random((9, 2)), np.ones(2))
    x, y = rng.random(7), rng.random(5)
    pairs = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    reach = space.reach(0, x).mean(axis=0), space.reach(1, y).mean(axis=0)
    expected = (space.sides(0, reach[0]) * space.sides(1, reach[1])).sum()
    assert expected == pytest.approx(space.gains(pairs).mean())


@pytest.mark.parametrize("objectives", [2, 3])
def test_there_are_few_boxes(objectives: int) -> None:
    rows = np.random.default_rng(1).random((200, objectives))
    rows /= np.linalg.norm(rows, axis=1)[:, None]  # none dominates another
    space = free_space(rows, np.full(objectives, 1.1))
    assert space.sides(0, space.reach(0, np.zeros(1))).shape[-1] <= 3 * 200 + 1


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_an_empty_front_leaves_the_whole_box(objectives: int) -> None:
    samples = np.array([[0.0] * objectives, [1.5] * objectives])
    assert free_space(np.empty((0, objectives)), np.ones(objectives)).gains(samples) == pytest.approx([1.0, 0.0])


def test_the_shape_is_that_of_the_samples() -> None:
    assert free_space(np.empty((0, 2)), np.ones(2)).gains(np.zeros((4, 5, 2))).shape == (4, 5)


def test_more_objectives_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        free_space(np.empty((0, 4)), np.ones(4))
