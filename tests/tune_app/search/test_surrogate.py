import numpy as np
import pytest

from search_spaces.space import SearchSpace
from tune_app.search.surrogate import Surrogate, features

PLAIN = SearchSpace.model_validate({"prune_frac": [0, 0.3, 0.6], "importance": ["l1", "l2"], "w_bits": [4]})
CONDITIONAL = SearchSpace.model_validate(
    {"prune_frac": [0, 0.3], "importance": {"of": ["l1", "l2"], "when": {"prune_frac": [0.3]}}}
)


def test_ordered_parameters_are_places_and_names_are_flags() -> None:
    rows = features(PLAIN, list(PLAIN.grid()))
    assert rows.tolist() == [
        [p, float(i == "l1"), float(i == "l2"), 0.0] for p in (0.0, 0.5, 1.0) for i in ("l1", "l2")
    ]


def test_a_parameter_that_is_not_there_is_flagged() -> None:
    points = [
        {
            "prune_frac": 0,
        },
        {"prune_frac": 0.3, "importance": "l2"},
    ]
    assert features(CONDITIONAL, points).tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("points", [[{"prune_frac": 0}], [{"prune_frac": 0.3, "importance": "l1"}]])
def test_the_number_of_columns_is_that_of_the_space(points: list[dict[str, float | int | str]]) -> None:
    assert features(CONDITIONAL, points).shape == (1, 5)


@pytest.mark.parametrize(("metric", "low", "high"), [("accuracy", 0.6, 0.99), ("size_bytes", 2e4, 3e5)])
def test_it_learns_a_smooth_metric_and_knows_where_it_knows_little(metric: str, low: float, high: float) -> None:
    def true(x: np.ndarray) -> np.ndarray:
        return low + (high - low) * x[:, 0] ** 2

    surrogate, known = Surrogate(metric), np.linspace(0, 0.6, 7)[:, None]
    surrogate.fit(known, true(known))
    inside = np.array([[0.15], [0.45]])
    assert surrogate.median(inside) == pytest.approx(true(inside), rel=0.05)
    drawn = surrogate.draw(np.array([[0.3], [1.0]]), np.array([-1.0, 1.0]))
    near, far = drawn[:, 1] - drawn[:, 0]
    assert far > 5 * abs(near)


def test_cheap_trials_inform_the_prediction_of_full_ones() -> None:
    """Column 1 is the rung: the same curve, shifted; three full trials fix the shift."""
    x = np.linspace(0, 1, 9)
    curve = 1e5 * (1.5 + np.sin(3 * x))
    low, full = np.c_[x, np.zeros(9)], np.c_[x[[0, 4, 8]], np.ones(3)]
    surrogate = Surrogate("size_bytes")
    surrogate.fit(np.r_[low, full], np.r_[curve, 2 * curve[[0, 4, 8]]])
    alone = Surrogate("size_bytes")
    alone.fit(full, 2 * curve[[0, 4, 8]])
    rows = np.c_[x[[2, 6]], np.ones(2)]
    error = np.abs(surrogate.median(rows) - 2 * curve[[2, 6]])
    assert (error < np.abs(alone.median(rows) - 2 * curve[[2, 6]])).all()


def test_perfect_accuracy_is_a_finite_value() -> None:
    surrogate = Surrogate("accuracy")
    surrogate.fit(np.array([[0.0], [1.0]]), np.array([1.0, 0.1]))
    assert np.isfinite(surrogate.draw(np.array([[0.0], [0.5]]), np.array([-3.0, 3.0]))).all()
    assert (surrogate.draw(np.array([[0.0]]), np.array([9.0])) <= 1.0).all()


def test_equal_values_are_no_problem() -> None:
    surrogate = Surrogate("size_bytes")
    surrogate.fit(np.array([[0.0], [1.0]]), np.array([500.0, 500.0]))
    assert surrogate.median(np.array([[0.5]])) == pytest.approx([500.0])
