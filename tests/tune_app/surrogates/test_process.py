"""The Gaussian process over points and rungs, against its definition and against what it must be able to learn."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from tune_app.surrogates.process import JITTER, LEVEL, Grid, Layout, Parameters, Process, _loss, fit_process

KNOWN = Parameters(
    lengths=np.array([0.5, 2.0]),
    variances=np.array([0.3, 0.7, 0.4]),
    noise=0.05,
    follows=np.array([0.6, 1.0]),
    own=np.array([[0.1, 0.2, 0.3]]),
)
ROWS = np.array([[0.0, 0.0], [0.4, 1.0], [1.0, 0.3], [0.4, 1.0]])
RUNGS = np.array([0, 0, 1, 1])
VALUES = np.array([-1.0, 0.2, 0.9, 0.6])


def covariance(x: np.ndarray, r: int, y: np.ndarray, s: int) -> float:
    """The definition in words of the module, one pair at a time."""
    columns = []
    for a, b, length in zip(x, y, KNOWN.lengths, strict=True):
        z = math.sqrt(5) * abs(a - b) / length
        columns.append((1 + z + z**2 / 3) * math.exp(-z))
    bases = [*columns, columns[0] * columns[1]]
    shared = (
        KNOWN.follows[r] * KNOWN.follows[s] * (LEVEL + sum(a * b for a, b in zip(KNOWN.variances, bases, strict=True)))
    )
    own = LEVEL + sum(a * b for a, b in zip(KNOWN.own[0], bases, strict=True))
    return float(shared + (own if r == s == 0 else 0.0))


def table(rows: np.ndarray, rungs: np.ndarray, others: np.ndarray, other_rungs: np.ndarray) -> np.ndarray:
    pairs = [
        [covariance(x, r, y, s) for y, s in zip(others, other_rungs, strict=True)]
        for x, r in zip(rows, rungs, strict=True)
    ]
    return np.array(pairs)


def test_it_predicts_what_its_definition_says() -> None:
    new, at = np.array([[0.2, 0.8], [0.9, 0.9]]), np.array([1, 0])
    mean, deviation = Process(KNOWN, ROWS, RUNGS, VALUES).predict(new, at)
    seen = table(ROWS, RUNGS, ROWS, RUNGS) + (KNOWN.noise + JITTER) * np.eye(4)
    cross = table(new, at, ROWS, RUNGS)
    assert mean == pytest.approx(cross @ np.linalg.solve(seen, VALUES))
    left = table(new, at, new, at) - cross @ np.linalg.solve(seen, cross.T)
    assert deviation == pytest.approx(np.sqrt(np.diag(left)))


@pytest.mark.parametrize("rungs", [1, 2, 3])
def test_the_gradient_of_the_fit_is_that_of_its_loss(rungs: int) -> None:
    draw = np.random.default_rng(rungs)
    rows, at, values = draw.random((12, 3)), draw.integers(0, rungs, 12), draw.standard_normal(12)
    layout, grid = Layout(3, rungs - 1), Grid(rows)
    vector = layout.mean + 0.3 * draw.standard_normal(len(layout.mean))
    _, gradient = _loss(layout, vector, grid, grid.marks(rows), at, values)
    slopes = approx_fprime(vector, lambda v: _loss(layout, v, grid, grid.marks(rows), at, values)[0], 1e-6)
    assert gradient == pytest.approx(slopes, abs=1e-5 * np.abs(slopes).max())


def test_effects_that_add_up_are_learned_from_one_change_at_a_time() -> None:
    """Six columns, thirteen trials: a middle, and each column at its ends. What two changes do was never seen."""
    effects = np.array([2.0, -1.0, 0.5, 0.0, 1.0, -1.5])
    rows = [np.full(6, 0.5)]
    for j in range(6):
        rows += [np.where(np.arange(6) == j, end, 0.5) for end in (0.0, 1.0)]
    seen = np.stack(rows)
    values = (seen - 0.5) @ effects
    process, _ = fit_process(seen, np.zeros(13, int), values, lower_rungs=0, start=None)
    new = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(float)
    mean, _ = process.predict(new, np.zeros(40, int))
    assert np.corrcoef(mean, (new - 0.5) @ effects)[0, 1] > 0.98


def test_a_rung_is_trusted_as_far_as_it_agreed() -> None:
    def trusted(low: np.ndarray) -> float:
        rows = np.r_[x, x]
        process, _ = fit_process(rows, np.repeat([0, 1], 12), np.r_[low, full], lower_rungs=1, start=None)
        return process.correlation(np.array([0.5, 2.0]), 0)

    draw = np.random.default_rng(1)
    x = draw.random((12, 2))
    full = np.sin(3 * x[:, 0]) + x[:, 1]
    full = (full - full.mean()) / full.std()
    assert trusted(full - 2.0) > 0.8
    assert abs(trusted(draw.standard_normal(12))) < 0.5


def test_a_trial_that_runs_leaves_the_mean_and_narrows_what_is_near_it() -> None:
    process = Process(KNOWN, ROWS, RUNGS, VALUES)
    new, full = np.array([[0.8, 0.8], [0.75, 0.8], [0.0, 0.0]]), np.array([1, 1, 1])
    believed = process.believing(new[:1], full[:1])
    before, after = process.predict(new, full), believed.predict(new, full)
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    narrowed = after[1] / before[1]
    assert narrowed[0] < narrowed[1] < narrowed[2] <= 1.0
