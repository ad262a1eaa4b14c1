import numpy as np
import pytest

from tune_app.surrogates.surrogate import Surrogate


@pytest.mark.parametrize(("metric", "low", "high"), [("accuracy", 0.6, 0.99), ("size_bytes", 2e4, 3e5)])
def test_it_learns_a_smooth_metric_and_knows_where_it_knows_little(metric: str, low: float, high: float) -> None:
    def true(x: np.ndarray) -> np.ndarray:
        return low + (high - low) * x[:, 0] ** 2

    surrogate, known = Surrogate(metric, rungs=1), np.linspace(0, 0.6, 7)[:, None]
    surrogate.fit(known, np.zeros(7, int), true(known))
    inside = np.array([[0.15], [0.45]])
    assert surrogate.median(inside) == pytest.approx(true(inside), rel=0.05)
    drawn = surrogate.draw(np.array([[0.3], [1.0]]), np.array([-1.0, 1.0]))
    near, far = drawn[:, 1] - drawn[:, 0]
    assert far > 5 * abs(near)


def test_cheap_trials_inform_the_prediction_of_full_ones() -> None:
    """The same curve, shifted; three full trials fix the shift."""
    x = np.linspace(0, 1, 9)[:, None]
    curve = 1e5 * (1.5 + np.sin(3 * x[:, 0]))
    some = [0, 4, 8]
    surrogate = Surrogate("size_bytes", rungs=2)
    surrogate.fit(np.r_[x, x[some]], np.repeat([0, 1], [9, 3]), np.r_[curve, 2 * curve[some]])
    alone = Surrogate("size_bytes", rungs=2)
    alone.fit(x[some], np.ones(3, int), 2 * curve[some])
    error = np.abs(surrogate.median(x[[2, 6]]) - 2 * curve[[2, 6]])
    assert (error < np.abs(alone.median(x[[2, 6]]) - 2 * curve[[2, 6]])).all()


def test_perfect_accuracy_is_a_finite_value() -> None:
    surrogate = Surrogate("accuracy", rungs=1)
    surrogate.fit(np.array([[0.0], [1.0]]), np.zeros(2, int), np.array([1.0, 0.1]))
    assert np.isfinite(surrogate.draw(np.array([[0.0], [0.5]]), np.array([-3.0, 3.0]))).all()
    assert (surrogate.draw(np.array([[0.0]]), np.array([9.0])) <= 1.0).all()


def test_equal_values_are_no_problem() -> None:
    surrogate = Surrogate("size_bytes", rungs=1)
    surrogate.fit(np.array([[0.0], [1.0]]), np.zeros(2, int), np.array([500.0, 500.0]))
    assert surrogate.median(np.array([[0.5]])) == pytest.approx([500.0])


def test_values_on_both_sides_of_the_corner_come_back_as_they_were() -> None:
    known, values = np.linspace(0, 1, 5)[:, None], np.array([0.2, 0.5, 0.9, 0.95, 0.99])
    surrogate = Surrogate("accuracy", rungs=1, corner=0.9)
    assert surrogate._unseen(surrogate._seen(values)) == pytest.approx(values)
    sizes = Surrogate("size_bytes", rungs=1, corner=2e5, larger_is_better=False)
    assert sizes._unseen(sizes._seen(np.array([1e5, 2e5, 8e5]))) == pytest.approx([1e5, 2e5, 8e5])
    surrogate.fit(known, np.zeros(5, int), values)
    assert surrogate.median(known) == pytest.approx(values, abs=0.15)


def test_how_bad_a_point_beyond_the_corner_is_says_little_of_the_others() -> None:
    """Along the edge of column 1 all collapse; the rest of the space must not look hopeless for that."""
    rows = np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 1.0]])
    values = np.array([0.98, 0.97, 0.96, 0.3, 0.2])

    def hope(corner: float | None) -> float:
        surrogate = Surrogate("accuracy", rungs=1, corner=corner)
        surrogate.fit(rows, np.zeros(5, int), values)
        return float(surrogate.draw(np.array([[1.0, 0.7]]), np.array([1.0]))[0, 0])

    assert hope(0.9) > 0.9 > hope(None)


def test_what_a_lower_rung_tells_moves_the_draws_and_narrows_them() -> None:
    x = np.linspace(0, 1, 8)[:, None]
    curve = 1e5 * (1.5 + np.sin(9 * x[:, 0]))
    surrogate = Surrogate("size_bytes", rungs=2)
    surrogate.fit(np.r_[x, x], np.repeat([0, 1], 8), np.r_[curve, 1.1 * curve])
    row, normal = np.array([1.4]), np.array([-1.0, 0.0, 1.0])
    bad, good = surrogate.draw_after(row, 0, np.array([-1.0, 1.0]), normal)
    [before] = surrogate.draw(row[None], normal)
    assert bad[1] < before[1] < good[1]
    for after in (bad, good):
        assert after[2] / after[0] < before[2] / before[0]


def test_running_trials_narrow_the_draws_until_the_next_fit() -> None:
    surrogate, rows = Surrogate("size_bytes", rungs=1), np.array([[0.0], [0.3]])
    surrogate.fit(rows, np.zeros(2, int), np.array([1e5, 2e5]))

    def width() -> float:
        low, high = surrogate.draw(np.array([[0.9]]), np.array([-1.0, 1.0]))[0]
        return float(np.log(high / low))

    before = width()
    surrogate.believe(np.array([[0.9]]))
    assert width() < 0.7 * before
    surrogate.fit(rows, np.zeros(2, int), np.array([1e5, 2e5]))
    assert width() == pytest.approx(before)
