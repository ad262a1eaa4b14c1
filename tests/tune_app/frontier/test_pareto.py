import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _is_pareto_front

from tune_app.frontier.pareto import costs, hypervolume, knee, non_dominated


def small_costs(max_objectives: int = 4, high: int = 5) -> st.SearchStrategy[np.ndarray]:
    """Few distinct values, so that ties and equal rows are common."""
    shapes = st.tuples(st.integers(1, 24), st.integers(1, max_objectives))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, high).map(float)))


def finite_costs(max_objectives: int = 4) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 20), st.integers(1, max_objectives))
    numbers = st.floats(-1e9, 1e9, allow_subnormal=False)
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=numbers))


def obvious_non_dominated(costs: np.ndarray) -> np.ndarray:
    no_worse = (costs[:, None] <= costs).all(-1)
    better = (costs[:, None] < costs).any(-1)
    return ~(no_worse & better).any(0)


def counted_volume(points: np.ndarray, reference: np.ndarray) -> int:
    """Unit cells of an integer grid that some point dominates."""
    cells = itertools.product(*(range(int(r)) for r in reference))
    return sum(any((p <= cell).all() for p in points) for cell in map(np.array, cells))


@given(small_costs() | finite_costs())
def test_non_dominated_agrees_with_the_obvious_version(rows: np.ndarray) -> None:
    assert (non_dominated(rows) == obvious_non_dominated(rows)).all()


@given(small_costs() | finite_costs())
def test_non_dominated_agrees_with_optuna(rows: np.ndarray) -> None:
    assert (non_dominated(rows) == _is_pareto_front(rows, assume_unique_lexsorted=False)).all()


@given(small_costs(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: np.ndarray, random: np.random.Generator) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    assert (non_dominated(rows[order]) == non_dominated(rows)[order]).all()


def test_equal_rows_stay_together_and_zero_has_no_sign() -> None:
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, True, False]
    assert non_dominated(np.array([[0.0, 1.0], [-0.0, 1.0], [-0.0, 2.0]])).tolist() == [True, True, False]


def test_large_random_rows_agree_with_optuna() -> None:
    random = np.random.default_rng(0)
    for rows in (random.random((3000, 3)), random.integers(0, 12, (3000, 3)).astype(float), _sphere(700, random)):
        assert (non_dominated(rows) == _is_pareto_front(rows, assume_unique_lexsorted=False)).all()


def _sphere(n: int, random: np.random.Generator) -> np.ndarray:
    """Points that are all on the frontier: the worst case of a method that removes what is dominated."""
    directions = np.abs(random.normal(size=(n, 3)))
    return -directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("shape", ["random_2", "random_3", "all_on_the_frontier"])
def test_a_hundred_thousand_rows_take_well_under_a_second(shape: str) -> None:
    random = np.random.default_rng(1)
    n = 100_000
    rows = _sphere(n, random) if shape == "all_on_the_frontier" else random.random((n, int(shape[-1])))
    start = time.process_time()
    mask = non_dominated(rows)
    assert time.process_time() - start < 1.0
    assert (mask.sum() == n) == (shape == "all_on_the_frontier")


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_no_rows_have_no_frontier_no_volume_and_no_knee(objectives: int) -> None:
    empty = np.zeros((0, objectives))
    assert non_dominated(empty).tolist() == []
    assert hypervolume(empty, [1.0] * objectives) == 0.0
    assert knee(empty) is None


@pytest.mark.parametrize("function", [non_dominated, knee, lambda c: hypervolume(c, [9.0, 9.0])])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_refused(function, bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        function(np.array([[1.0, bad]]))


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 0))])
def test_other_shapes_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        non_dominated(bad)


@given(small_costs(max_objectives=3, high=6))
def test_hypervolume_agrees_with_counted_cells(rows: np.ndarray) -> None:
    reference = np.full(rows.shape[1], 5.0)  # rows at 5 and 6 are outside
    assert hypervolume(rows, reference) == counted_volume(rows, reference)


@given(finite_costs(max_objectives=3))
def test_hypervolume_agrees_with_optuna(rows: np.ndarray) -> None:
    reference = rows.max(axis=0) + 1
    assert hypervolume(rows, reference) == pytest.approx(compute_hypervolume(rows, reference), rel=1e-9)


@given(small_costs(max_objectives=3))
def test_only_the_frontier_has_volume(rows: np.ndarray) -> None:
    reference = [7.0] * rows.shape[1]
    assert hypervolume(rows[non_dominated(rows)], reference) == hypervolume(rows, reference)


def test_hypervolume_refuses_four_objectives_and_a_reference_of_another_length() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        hypervolume(np.zeros((1, 4)), [1.0] * 4)
    with pytest.raises(ValueError, match="coordinates"):
        hypervolume(np.zeros((1, 2)), [1.0])


def test_costs_flip_what_is_maximized() -> None:
    values = np.array([[0.9, 100.0], [0.8, 50.0], [0.7, 60.0]])
    assert costs(values, ["maximize", "minimize"]).tolist() == [[-0.9, 100.0], [-0.8, 50.0], [-0.7, 60.0]]
    assert non_dominated(costs(values, ["maximize", "minimize"])).tolist() == [True, True, False]
    assert non_dominated(costs(values, ["minimize", "minimize"])).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="one column per direction"):
        costs(values, ["maximize"])


def test_the_knee_is_the_point_farthest_below_the_line_through_the_ends() -> None:
    #        ends          knee                     dominated, nearer to the ideal point of all rows
    rows = [[0.0, 100.0], [2.0, 10.0], [10.0, 0.0], [2.0, 11.0]]
    assert knee(np.array(rows)) == 1


@given(small_costs(max_objectives=3), st.integers(1, 100), st.integers(-50, 50))
def test_the_knee_does_not_depend_on_units(rows: np.ndarray, scale: int, shift: int) -> None:
    assert knee(rows * scale + shift) == knee(rows)


def test_ties_of_the_knee_go_to_the_smallest_costs_then_to_the_first_row() -> None:
    assert knee(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])) == 2
    assert knee(np.array([[3.0, 3.0], [3.0, 3.0]])) == 0
    assert knee(np.array([[3.0], [1.0], [1.0]])) == 1
