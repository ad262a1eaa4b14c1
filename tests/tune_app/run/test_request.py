"""What a run is asked for beside its spec."""

from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_spec
from trainables.config import QuantAwareTrain, Schedule
from trainables.errors import ConfigError
from tune_app.run.request import with_trials
from tune_app.spec.experiment import ExperimentSpec, Fidelity


def trained_spec(storage: Path, trials: int, **changes: object) -> ExperimentSpec:
    """An experiment whose trials train, so that a rung without training may spare some of them."""
    trained = QuantAwareTrain(kind="qat", schedule=Schedule(epochs=2, lr=0.1))
    base = make_spec(storage).base.model_copy(update={"quantize": trained})
    plain = {"constraints": ["accuracy >= 0.5"], "tracking": ["tensorboard"], "repeats": 2}
    return make_spec(storage, base=base, budget={"trials": trials, "wall_s": 60}, **{**plain, **changes})


@pytest.mark.parametrize("trials", [5, 18, 30])
@pytest.mark.parametrize("before", [4, 18])
def test_a_number_of_trials_is_what_it_is_in_the_spec(before: int, trials: int, tmp_path: Path) -> None:
    asked = with_trials(trained_spec(tmp_path, before), trials)
    assert asked == trained_spec(tmp_path, trials)
    assert (asked.fidelity is None) == (trials >= asked.space.size)


@pytest.mark.parametrize("chosen", [None, Fidelity(eta=2)])
def test_rungs_that_somebody_chose_stay(chosen: Fidelity | None, tmp_path: Path) -> None:
    for before, trials in ((18, 5), (5, 18)):
        assert with_trials(trained_spec(tmp_path, before, fidelity=chosen), trials).fidelity == chosen


@pytest.mark.parametrize("trials", ["8", 2.5, True])
def test_what_is_no_whole_number_is_refused(trials: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"trials must be a whole number, but got {trials!r}"):
        with_trials(make_spec(tmp_path), trials)
