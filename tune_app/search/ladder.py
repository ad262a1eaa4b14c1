"""Ladder: how the points stand at each rung, and which one climbs next. Made of records alone."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from pydantic import Field

from search_spaces.rungs import FULL, bit_class
from trainables.config import Frozen
from trainables.printable import Printable
from trainables.results import SCORES, Count
from tune_app.frontier.objectives import costs_of, judged, learnable
from tune_app.frontier.promotion import Standing, order, rank_correlation
from tune_app.ledger.ledger import Assignment, Place, TrialRecord
from tune_app.spec.experiment import ExperimentSpec


class Agreement(Frozen):
    """How the ranks of a rung agree with those of the next one, over the points that have both."""

    rung: Printable
    above: Printable
    pairs: Count
    correlation: dict[Printable, float | None] = Field(
        description="Spearman's rank correlation, by objective; null where a side does not vary"
    )
    dropped: bool


class Ladder:
    """The rungs of a spec, cheapest first; without fidelity there is the full schedule alone."""

    def __init__(self, spec: ExperimentSpec, reference: Mapping[str, float]) -> None:
        self._spec = spec
        self._reference = costs_of(reference, spec).tolist()
        self._records: dict[str, dict[str, TrialRecord]] = {name: {} for name in spec.rungs}
        self._metrics: dict[str, dict[str, dict[str, float]]] = {name: {} for name in spec.rungs}
        self._standings: dict[str, dict[str, Standing]] = {name: {} for name in spec.rungs}
        """What ranks a trial that was measured, by rung and key."""
        self._agreements: list[Agreement] | None = None

    def add(self, record: TrialRecord) -> None:
        """Takes a finished trial; one of a rung that the spec has no more is left out."""
        work = record.assignment
        if work.rung in self._records:
            self._records[work.rung][work.config_key] = record
            self._agreements = None
            read = judged if work.rung == FULL else learnable
            # Without rungs nothing climbs, so nothing is ranked.
            if self._spec.fidelity is not None and (metrics := read(record, self._spec)):
                self._metrics[work.rung][work.config_key] = metrics
                self._standings[work.rung][work.config_key] = self._standing(work, metrics)

    @property
    def entry(self) -> str:
        """The rung at which a new point starts."""
        return self.rungs[0]

    @property
    def rungs(self) -> list[str]:
        """The rungs in use, cheapest first: one that misleads is skipped."""
        dropped = {a.rung for a in self.agreements() if a.dropped}
        return [name for name in self._records if name not in dropped]

    def has(self, key: str) -> bool:
        """Whether a configuration has a record at a rung in use."""
        return any(key in self._records[rung] for rung in self.rungs)

    def next(self, started: Collection[Place], *, generous: bool = False) -> tuple[TrialRecord, str] | None:
        """Returns the best point that earned the next rung: its record, and that rung. The highest rung goes first.

        Of n finished points of a rung n / eta climb; with `generous`, when there are no new points left to start, all
        may, the best first. `started` are the places of points that run or wait.
        """
        rungs = self.rungs
        for low, high in reversed(list(pairwise(rungs))):
            here = self._records[low]
            climbed = {key for key in here if key in self._records[high] or (key, high) in started}
            eta = 1.0 if generous or self._spec.fidelity is None else self._spec.fidelity.eta
            if len(climbed) >= int(len(here) / eta + 1e-9):
                continue
            # Ranked among all that finished here, those that climbed already too.
            ranked = order(list(self._standings[low].values()), self._reference)
            best = next((key for key in ranked if key not in climbed), None)
            if best is not None:
                return here[best], high
        return None

    def agreements(self) -> list[Agreement]:
        """Returns how each rung below the full schedule agrees with the next one that is in use."""
        if self._agreements is None:
            self._agreements = self._compare()
        return self._agreements

    def _compare(self) -> list[Agreement]:
        found: list[Agreement] = []
        above = FULL
        for low in reversed(list(self._records)[:-1]):
            found.append(self._agreement(low, above))
            if not found[-1].dropped:
                above = low
        return found[::-1]

    def _agreement(self, low: str, high: str) -> Agreement:
        fidelity = self._spec.fidelity
        assert fidelity is not None, "only a spec with rungs has one below the full schedule"
        here, there = self._metrics[low], self._metrics[high]
        both = [(metrics, there[key]) for key, metrics in here.items() if key in there]
        found = {
            name: rank_correlation([a[name] for a, _ in both], [b[name] for _, b in both])
            for name in self._spec.objectives
        }
        worst = min((rho for rho in found.values() if rho is not None), default=1.0)
        dropped = len(both) >= fidelity.min_pairs and worst < fidelity.min_correlation
        return Agreement(rung=low, above=high, pairs=len(both), correlation=found, dropped=dropped)

    def _standing(self, work: Assignment, metrics: Mapping[str, float]) -> Standing:
        spec = self._spec
        return Standing(
            key=work.config_key,
            costs=tuple(costs_of(metrics, spec).tolist()),
            violation=sum(
                max(0.0, c.violation(metrics[c.metric])) / max(abs(c.bound), 1e-12)
                for c in spec.constraints
                if c.metric not in SCORES  # a bound on what training changes says nothing before the full schedule
            ),
            pace=bit_class(spec.trial(work.params)),
        )


def agreements(records: Sequence[TrialRecord], spec: ExperimentSpec, reference: Mapping[str, float]) -> list[Agreement]:
    """Returns how the ranks of each rung agree with those of the next one, from records alone."""
    ladder = Ladder(spec, reference)
    for record in records:
        if record.assignment.repeat == 0:
            ladder.add(record)
    return ladder.agreements()
