"""Totals: how many trials an experiment has, how they ended, and what they cost; of all records, in a few numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from search_spaces.rungs import FULL
from trainables.config import Frozen
from trainables.printable import Printable
from trainables.results import Count
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.ledger import TrialRecord, failure_kind
from tune_app.ledger.training_cost import TakenOver, seconds_saved, taken_over, training_seconds
from tune_app.search.ladder import Agreement, agreements
from tune_app.search.repeats import wants_repeats
from tune_app.spec.experiment import ExperimentSpec


class Totals(Frozen):
    """The totals of an experiment."""

    trials: dict[Printable, Count] = Field(description="by their state")
    rungs: dict[Printable, Count] = Field(description="first runs alone, by their rung")
    repeats: Count = Field(description="runs that are not the first of their point")
    done: Count = Field(description="trials of the full schedule that have ended")
    on_frontier: Count
    training_seconds: float = Field(ge=0)
    seconds_saved: float = Field(description="seconds of training that the stage cache made unnecessary")
    taken_over: dict[Printable, TakenOver] = Field(
        description="what other experiments ran, by their names; it is in no other number of seconds"
    )
    failures: dict[Printable, Count] = Field(description="trials without a usable result, by the kind of their failure")
    agreements: tuple[Agreement, ...] = Field(description="how the rungs agree; none without rungs or a baseline")
    by_plug_ins: Count = Field(description="trials that the plug-in of another package had a part in")
    wants_repeats: bool = Field(description="whether some point is worth another run")

    @property
    def count(self) -> int:
        """The number of all trials, those of shorter schedules and repeats included."""
        return sum(self.trials.values())


def totals_of(records: Sequence[TrialRecord], spec: ExperimentSpec, reference: Mapping[str, float] | None) -> Totals:
    """Returns the totals of the newest record of each configuration and rung.

    `reference` is the point that bounds the hypervolume; None: there is no baseline yet.
    """
    first = [r for r in records if r.assignment.repeat == 0]
    rungs = Counter(r.assignment.rung for r in first)
    failures = Counter(failure_kind(r.reason) for r in records if r.reason)
    laddered = spec.fidelity is not None
    return Totals(
        trials=dict(Counter(r.state for r in records)),
        rungs={name: rungs[name] for name in spec.rungs if rungs[name]},
        repeats=len(records) - len(first),
        done=rungs[FULL],
        on_frontier=len(frontier_ids(records, spec)),
        training_seconds=sum(map(training_seconds, records)),
        seconds_saved=seconds_saved(records),
        taken_over=taken_over(records),
        failures=dict(failures.most_common()),
        agreements=tuple(agreements(records, spec, reference)) if laddered and reference else (),
        by_plug_ins=sum("plug_ins" in r.environment for r in records),
        wants_repeats=wants_repeats(records, spec),
    )
