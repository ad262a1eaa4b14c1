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
from tune_app.search.strategy import OUTLOOK, Outlook
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.growth import ENOUGH, hypervolume_rows, settled_at
from tune_app.terminal.quantities import show_duration


class Settled(Frozen):
    """When a search had ENOUGH of the hypervolume that it has: what came after it brought little."""

    trials: Count = Field(description="of the full schedule, in the order in which they were proposed")
    training_s: float = Field(description="seconds of training until then")


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
    outlook: Outlook | None = Field(description="what the newest trial was told to expect; null: nothing")
    settled: Settled | None = Field(description="when the frontier was nearly what it is; null: it has no volume")
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
        rungs={name: rungs[name] for name in dict.fromkeys([*spec.rungs, *rungs]) if rungs[name]},
        repeats=len(records) - len(first),
        done=rungs[FULL],
        on_frontier=len(frontier_ids(records, spec)),
        training_seconds=sum(map(training_seconds, records)),
        seconds_saved=seconds_saved(records),
        taken_over=taken_over(records),
        failures=dict(failures.most_common()),
        agreements=tuple(agreements(records, spec, reference)) if laddered and reference else (),
        by_plug_ins=sum("plug_ins" in r.environment for r in records),
        outlook=_outlook(records),
        settled=None if reference is None else _settled(records, spec, reference),
        wants_repeats=wants_repeats(records, spec),
    )


def _outlook(records: Sequence[TrialRecord]) -> Outlook | None:
    told = [r.assignment for r in records if OUTLOOK in r.assignment.sampler_attrs]
    newest = max(told, key=lambda work: work.number, default=None)
    return None if newest is None else Outlook.model_validate(newest.sampler_attrs[OUTLOOK])


def _settled(records: Sequence[TrialRecord], spec: ExperimentSpec, reference: Mapping[str, float]) -> Settled | None:
    rows = hypervolume_rows(records, spec, reference)
    place = settled_at([float(row["hypervolume"]) for row in rows])
    if place is None:
        return None
    return Settled(trials=int(rows[place]["trials"]), training_s=float(rows[place]["training_s"]))


def growth_lines(totals: Totals) -> list[str]:
    """Says when the frontier was nearly what it is, and what is still expected."""
    lines, settled = [], totals.settled
    if settled is not None and settled.trials < totals.done:
        lines.append(
            f"{100 * ENOUGH:g} % of the hypervolume was there after {settled.trials:,} of {totals.done:,} trials, "
            f"and {show_duration(settled.training_s)} of training"
        )
    return lines if totals.outlook is None else [*lines, f"expected of {totals.outlook}"]
