"""Study: where new points come from. One is Optuna's, one walks the grid; both are rebuilt from the ledger."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces.parameters import Value
from search_spaces.samplers import ORDERS, SAMPLERS, distribution, suggest
from search_spaces.space import SearchSpace
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from optuna.trial import Trial

Point = dict[str, Value]


@dataclass(frozen=True)
class Ask:
    """A proposed point; `token` is the study's own, handed back by `tell`."""

    params: Point
    attrs: Mapping[str, Any]
    token: Any = None


class Study(Protocol):
    """Proposes points and learns from finished trials."""

    def ask(self, point: Point | None = None) -> Ask | None:
        """A new point, or a trial of the given one; None when there are no more."""
        ...

    def tell(self, token: Any, record: TrialRecord | None) -> None:
        """Closes a trial: with its record, or without one (a repeat, a lost worker), which teaches nothing."""
        ...

    def replay(self, record: TrialRecord) -> None:
        """Learns from a record of an earlier run, or of a point that this study did not propose."""
        ...


def open_study(spec: ExperimentSpec, *, finished: int) -> Study:
    """The study of a spec; `finished` records were there before, so random draws do not start over."""
    if spec.sampler.name in ORDERS:
        return OrderedStudy(SAMPLERS[spec.sampler.name](spec.space, spec.sampler.seed))
    return OptunaStudy(spec, seed=(spec.sampler.seed * 1_000_003 + finished) % 2**32)


class OrderedStudy:
    """A fixed walk over the space; it learns nothing."""

    def __init__(self, points: Iterator[Point]) -> None:
        self._points = points

    def ask(self, point: Point | None = None) -> Ask | None:
        """The next point of the walk."""
        found = point if point is not None else next(self._points, None)
        return None if found is None else Ask(found, {})

    def tell(self, token: Any, record: TrialRecord | None) -> None:
        """Nothing to learn."""

    def replay(self, record: TrialRecord) -> None:
        """Nothing to learn."""


class OptunaStudy:
    """An in-memory Optuna study. Optuna sees the index of each value; infinite and missing values never reach it."""

    def __init__(self, spec: ExperimentSpec, *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._spec = spec
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = SAMPLERS[spec.sampler.name](spec.space, seed)
        self._study = optuna.create_study(directions=list(spec.objectives.values()), sampler=sampler)

    def ask(self, point: Point | None = None) -> Ask | None:
        """A point from the sampler, or a trial of the given point."""
        if point is not None:
            self._study.enqueue_trial(_indices(point, self._spec.space))
        trial = self._study.ask()
        values = suggest(trial, self._spec.space)
        attrs = self._study.get_trials(deepcopy=False)[trial.number].system_attrs
        return Ask(values, {k: v for k, v in attrs.items() if k != "fixed_params"}, trial)

    def tell(self, token: "Trial", record: TrialRecord | None) -> None:
        """Values of a complete trial with its bounds; FAIL for everything else."""
        from optuna.trial import TrialState

        if record is None or record.state != "complete":
            self._study.tell(token, state=TrialState.FAIL)
            return
        for name, violation in self._violations(record).items():
            token.set_constraint(name, violation)
        self._study.tell(token, self._values(record))

    def replay(self, record: TrialRecord) -> None:
        """Adds a finished trial; a point outside this space stays out."""
        from optuna.trial import TrialState, create_trial

        work = record.assignment
        if not self._spec.space.contains(work.params):
            return
        complete = record.state == "complete"
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
