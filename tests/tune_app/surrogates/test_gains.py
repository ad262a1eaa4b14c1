"""Expected gains, against the mean over many random draws of all metrics together."""

from pathlib import Path

import numpy as np
import pytest

from tests.tune_app.factories import make_spec
from tune_app.frontier.hypervolume_gain import FreeSpace, free_space
from tune_app.spec.experiment import ExperimentSpec
from tune_app.surrogates.gains import OUTCOMES, ExpectedGains
from tune_app.surrogates.surrogate import Surrogate

CORNER = {"accuracy": 0.6, "size_bytes": 4e5, "macs": 4e6, "bops": 0.0}
FRONT = {"accuracy": 0.72, "size_bytes": 2e5, "macs": 2e6}
KNOWN = np.array([[0.0, 0.2], [0.5, 0.9], [1.0, 0.4], [0.3, 0.6], [0.8, 0.1]])
NEW = np.array([[0.1, 0.9], [0.6, 0.2], [0.9, 0.9]])


def learned(spec: ExperimentSpec) -> dict[str, Surrogate]:
    """Surrogates of two rungs that have seen five trials at each."""
    x, y = KNOWN.T
    noise = np.array([0.3, -0.2, 0.1, -0.3, 0.2])
    values = {
        "accuracy": 0.7 + 0.1 * (x - y + noise),
        "size_bytes": 1e5 * (1 + x + y + noise),
        "macs": 1e6 * (2 - x + noise),
        "bops": 9 + x + noise,
    }
    found = {}
    for name in spec.metrics:
        found[name] = Surrogate(name, rungs=2, larger_is_better=name == "accuracy")
        both = np.r_[0.9 * values[name], values[name]]
        found[name].fit(np.r_[KNOWN, KNOWN], np.repeat([0, 1], 5), both)
    return found


def space_of(spec: ExperimentSpec) -> FreeSpace:
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in spec.objectives.values()])
    front = [[FRONT[name] for name in spec.objectives]]
    return free_space(signs * front, signs * [CORNER[name] for name in spec.objectives])


def by_draws(spec: ExperimentSpec, surrogates: dict[str, Surrogate], rows: np.ndarray) -> np.ndarray:
    """The definition: the mean gain of draws that keep the bounds."""
    rng = np.random.default_rng(0)
    drawn = {name: surrogate.draw(rows, rng.standard_normal(40_000)) for name, surrogate in surrogates.items()}
    signs = [-1.0 if d == "maximize" else 1.0 for d in spec.objectives.values()]
    costs = np.stack([sign * drawn[name] for sign, name in zip(signs, spec.objectives, strict=True)], axis=-1)
    gains = space_of(spec).gains(costs)
    for bound in spec.constraints:
        gains = np.where(np.vectorize(bound.violation)(drawn[bound.metric]) <= 0, gains, 0.0)
    mean: np.ndarray = gains.mean(axis=-1)
    return mean


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "size_bytes"], ["accuracy", "size_bytes", "macs"]])
@pytest.mark.parametrize("constraints", [[], ["accuracy >= 0.72"], ["bops <= 9.4"]])
def test_it_is_the_mean_over_what_trials_may_report(
    objectives: list[str], constraints: list[str], tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, objectives=objectives, constraints=constraints)
    surrogates = learned(spec)
    found, expected = ExpectedGains(spec, surrogates, space_of(spec)).in_full(NEW), by_draws(spec, surrogates, NEW)
    assert found == pytest.approx(
        expected, rel=0.15, abs=0.02 * expected.max()
    )  # what is beyond 2.6 sd is not looked at


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "size_bytes"]])
def test_the_outcomes_of_a_lower_rung_have_the_same_mean_and_differ(objectives: list[str], tmp_path: Path) -> None:
    spec = make_spec(tmp_path, objectives=objectives)
    gains = ExpectedGains(spec, learned(spec), space_of(spec))
    some = NEW[1:]  # the first gains nothing in accuracy alone
    for row, whole in zip(some, gains.in_full(some), strict=True):
        after = gains.after(row, 0)
        assert len(after) == OUTCOMES ** len(objectives)
        assert after.mean() == pytest.approx(whole, rel=0.15)
        assert after.max() > 1.1 * after.mean()
