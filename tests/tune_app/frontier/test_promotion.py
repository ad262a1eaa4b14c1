import math

import numpy as np
import pytest

from tune_app.frontier.pareto import GrowingFrontier, contributions, hypervolume, non_dominated, pareto_ranks
from tune_app.frontier.promotion import Standing, order, rank_correlation

REFERENCE = (10.0, 10.0)


def standings(*costs: tuple[float, float], **more: list[float]) -> list[Standing]:
    found = []
    for i, pair in enumerate(costs):
        extra = {name: values[i] for name, values in more.items()}
        found.append(Standing(key="abcdefgh"[i], costs=pair, **extra))  # type: ignore[arg-type]
    return found


def test_a_lower_rank_goes_first() -> None:
    assert order(standings((3, 3), (1, 2), (2, 1), (4, 4)), REFERENCE)[2:] == ["a", "d"]


def test_equal_ranks_go_by_what_they_add() -> None:
    # Frontier corners: the middle point alone covers most.
    assert order(standings((1, 9), (4, 4), (9, 1)), REFERENCE)[0] == "b"


def test_each_class_of_pace_has_a_first_of_its_own() -> None:
    slow_and_fast = standings((1, 1), (2, 2), (3, 3), (4, 4), pace=[8, 8, 2, 2])
    assert order(slow_and_fast, REFERENCE) == ["a", "c", "b", "d"]


def test_points_outside_their_bounds_come_last() -> None:
    assert order(standings((1, 1), (2, 2), (3, 3), violation=[0.5, 0.1, -1.0]), REFERENCE) == ["c", "b", "a"]


def test_nothing_to_rank() -> None:
    assert order([], REFERENCE) == []


def test_ties_keep_their_order() -> None:
    assert order(standings((1, 1), (1, 1), (1, 1)), REFERENCE) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 1, 2], [1, 2, 3], math.sqrt(3) / 2),
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [2], None),
    ],
)
def test_spearmans_correlation(low: list[float], high: list[float], expected: float | None) -> None:
    assert rank_correlation(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_ranks_are_the_fronts_peeled_one_by_one(objectives: int) -> None:
    costs = np.random.default_rng(0).integers(0, 6, (80, objectives)).astype(float)
    ranks = pareto_ranks(costs)
    for i, row in enumerate(costs):
        dominating = (costs <= row).all(axis=1) & (costs < row).any(axis=1)
        expected = ranks[dominating].max() + 1 if dominating.any() else 0
        assert ranks[i] == expected
    assert len(pareto_ranks(np.zeros((0, objectives)))) == 0


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_contributions_and_trace_agree_with_the_volume(objectives: int) -> None:
    rng = np.random.default_rng(1)
    costs, reference = rng.random((30, objectives)) * 1.2, [1.0] * objectives
    whole = hypervolume(costs, reference)
    gains = contributions(costs, reference)
    for i in range(len(costs)):
        assert gains[i] == pytest.approx(whole - hypervolume(np.delete(costs, i, axis=0), reference), abs=1e-12)
    assert (gains[~non_dominated(costs)] == 0).all()
    growing = GrowingFrontier(reference)
    assert growing.volume == 0.0
    trace = [growing.add(row) for row in costs]
    assert trace == pytest.approx([hypervolume(costs[: i + 1], reference) for i in range(len(costs))])


def test_a_doubled_point_adds_nothing() -> None:
    assert contributions(np.array([[1.0, 1.0], [1.0, 1.0]]), REFERENCE).tolist() == [0.0, 0.0]
