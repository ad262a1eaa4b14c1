"""Study: where new points come from. One is Optuna's, one walks the grid; both are rebuilt from the ledger."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.parameters import Value
from search_spaces.samplers import SAMPLERS, distribution, suggest
from search_spaces.space import SearchSpace
from tune_app.frontier.objectives import judged
from tune_app.ledger.ledger import Params, TrialRecord
from tune_app.search.strategy import Choice
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from optuna.trial import Trial


def open_study(spec: ExperimentSpec, rung: str, *, seed: int) -> "OrderedStudy | OptunaStudy":
    """Opens the study of a rung; a walk has the seed of the spec, so that it goes on where it was."""
    sampler = SAMPLERS[spec.sampler.name]
    if sampler.walks:
        return OrderedStudy(sampler.make(spec.space, spec.sampler.seed), rung)
    return OptunaStudy(spec, rung, seed=seed)


class OrderedStudy:
    """A fixed walk over the space, which learns nothing."""

    def __init__(self, points: Iterator[Params], rung: str) -> None:
        self._points, self._rung = points, rung

    def ask(self, point: Params | None = None) -> Choice | None:
        """Returns the given point, or the next one of the walk; None when there are no more."""
        found = point if point is not None else next(self._points, None)
        return None if found is None else Choice(found, self._rung)

    def tell(self, token: Any, record: TrialRecord | None) -> None:
        """Ignores how a trial ended."""

    def replay(self, record: TrialRecord) -> None:
        """Ignores a record: a fixed walk learns nothing."""


class OptunaStudy:
    """An in-memory Optuna study. Optuna sees the index of each value; infinite and missing values never reach it."""

    def __init__(self, spec: ExperimentSpec, rung: str, *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._spec, self._rung = spec, rung
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = SAMPLERS[spec.sampler.name].make(spec.space, seed)
        self._study = optuna.create_study(directions=list(spec.objectives.values()), sampler=sampler)

    def ask(self, point: Params | None = None) -> Choice:
        """Returns a point from the sampler, or a trial of the given point, with Optuna's trial as its token."""
        if point is not None:
            self._study.enqueue_trial(_indices(point, self._spec.space))
        trial = self._study.ask()
        values = suggest(trial, self._spec.space)
        attrs = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        return Choice(values, self._rung, {k: v for k, v in attrs.items() if k != "fixed_params"}, trial)

    def tell(self, token: "Trial", record: TrialRecord | None) -> None:
        """Closes a trial with its values and bounds, or as FAIL, also without a record (a repeat, a lost worker)."""
        from optuna.trial import TrialState

        if record is None or not judged(record, self._spec):
            self._study.tell(token, state=TrialState.FAIL)
            return
        for name, violation in self._violations(record).items():
            token.set_constraint(name, violation)
        self._study.tell(token, self._values(record))

    def replay(self, record: TrialRecord) -> None:
        """Adds a trial that this study did not propose, or of an earlier run; a point outside this space stays out."""
        from optuna.trial import TrialState, create_trial

        work, complete = record.assignment, bool(judged(record, self._spec))
        if not self._spec.space.contains(work.params):
            return
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if complete else TrialState.FAIL,
                values=self._values(record) if complete else None,
                params=_indices(work.params, self._spec.space),
                distributions={name: distribution(self._spec.space.root[name]) for name in work.params},
                system_attrs=dict(work.sampler_attrs),
                constraints=self._violations(record) if complete else None,
            )
        )

    def _values(self, record: TrialRecord) -> Sequence[float]:
        metrics = record.metrics()
        return [metrics[name] for name in self._spec.objectives]

    def _violations(self, record: TrialRecord) -> dict[str, float]:
        metrics = record.metrics()
        return {str(c): c.violation(metrics[c.metric]) for c in self._spec.constraints}


def _indices(point: Mapping[str, Value], space: SearchSpace) -> dict[str, int]:
    return {name: space.root[name].values.index(value) for name, value in point.items()}
