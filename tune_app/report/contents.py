"""Contents: what a report is made of, read once from an experiment's folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainables.storage import Lock, names, read_bytes
from tune_app.drawing.frontier_info import Standing, refusal
from tune_app.frontier.pareto import knee
from tune_app.frontier.points import PointRuns, frontier, group_runs, mean_costs
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord, latest, params_label
from tune_app.ledger.test_results import held_out_results, read_held_out
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.baseline_so_far import BaselineSoFar, baseline_so_far
from tune_app.tables.trial_rows import trial_rows

LABEL_CHARS, ID_CHARS = 40, 10
"""Characters of a label in figures and tables, and of an id behind it, where labels alone do not tell trials apart."""
READING = 2
"""Number of steps of `read_contents`: the ledger, and what follows from it."""


@dataclass(frozen=True)
class Contents:
    """An experiment at one moment, running or not; a row is a trial, named by its place everywhere in a report."""

    folder: ExperimentFolder
    spec: ExperimentSpec
    spec_text: str
    baseline: BaselineInfo | None
    training: BaselineSoFar | None
    """How far the baseline is while it trains."""
    baseline_test: float | None
    """The accuracy on the test split; None before the experiment is finalized."""
    records: Sequence[TrialRecord]
    """The newest attempt of each configuration and rung, in order of proposal."""
    groups: Sequence[PointRuns]
    frontier: Sequence[PointRuns]
    """The points of the frontier, in rising order of the first minimized objective."""
    rows: Sequence[Mapping[str, Any]]
    """The rows of the trials' table, one for each record."""
    damaged: int
    """Files in the ledger that are no records; they are left out."""
    in_flight: int
    """Trials that run now, or were running when the driver was killed."""
    driver: str
    """Who holds the experiment; empty for nobody."""

    @cached_property
    def place(self) -> dict[str, int]:
        """The number of the row of each trial id."""
        return {record.assignment.trial_id: i for i, record in enumerate(self.records)}

    @property
    def reference(self) -> dict[str, float] | None:
        """The corner of the hypervolume by metric; None without a baseline."""
        return None if self.baseline is None else self.baseline.reference(self.spec)

    @cached_property
    def balanced(self) -> int | None:
        """The row of the frontier's knee; None without a frontier."""
        by_size = sorted(self.frontier, key=lambda g: (g.mean["size_bytes"], g.first.assignment.number))
        place = knee(mean_costs(by_size, self.spec))
        return None if place is None else self.row_of(by_size[place])

    def row_of(self, group: PointRuns) -> int:
        """Returns the row that stands for a point."""
        return self.place[group.first.assignment.trial_id]

    def label(self, row: int) -> str:
        """Returns what people call a trial, without the name of the full schedule, which is what they expect.

        Of a point with many parameters it would fill lines: that is called by the start of its id.
        """
        work = self.records[row].assignment
        brief = f"{work.trial_id[:ID_CHARS]}{work.label[len(params_label(work.params)) :]}"
        return work.label if len(work.label) <= LABEL_CHARS else brief

    def handle(self, row: int) -> str:
        """Returns what commands take for a trial: its label, where that names one trial alone, or its id."""
        work = self.records[row].assignment
        alone = len(self.spec.rungs) == 1 and not work.repeat
        return self.label(row) if alone and work.label.startswith(self.label(row)) else work.trial_id

    @cached_property
    def members(self) -> frozenset[int]:
        """The rows that stand for the points of the frontier."""
        return frozenset(map(self.row_of, self.frontier))

    def standing(self, group: PointRuns) -> Standing | None:
        """Returns how a point came out; None where an error or a lost worker says nothing of it."""
        if not group.mean:
            return refusal(group.first.state, group.first.reason)
        if self.row_of(group) in self.members:
            return "frontier"
        return "dominated" if group.feasible else "infeasible"

    def measured(self, group: PointRuns, metric: str) -> float | None:
        """Returns `value`, also of a point that was refused after it was measured; None where it never was."""
        known = group.mean or self.rows[self.row_of(group)].get(metric) is not None
        return self.value(group, metric) if known else None

    def value(self, group: PointRuns, metric: str) -> float:
        """Returns what all complete runs of a point say of a column: the mean of an objective or bounded column."""
        return group.mean[metric] if metric in group.mean else float(self.rows[self.row_of(group)][metric])


def read_contents(folder: ExperimentFolder, *, advance: Callable[[int], None] | None = None) -> Contents:
    """Reads what an experiment holds now; `advance` is told after each of READING steps.

    Raises:
        CorruptFile: the stored spec, the baseline or a test result is damaged.
        StorageUnavailable: a file cannot be read.
    """
    step = advance or (lambda _: None)
    spec, baseline = folder.read_spec(), read_baseline(folder)
    found, damaged = Ledger(folder.trials).read()
    step(1)
    records = latest(found)
    groups = group_runs(records, spec)
    tested = read_held_out(folder.baseline_file.parent)
    front = frontier(groups, spec)
    table = trial_rows(
        records,
        groups,
        front,
        spec,
        tested=held_out_results(folder),
        reference=None if baseline is None else baseline.reference(spec),
        baseline_accuracy=None if baseline is None else baseline.accuracy,
    )
    step(1)
    holder = Lock(folder.lease).holder()
    return Contents(
        folder=folder,
        spec=spec,
        spec_text=read_bytes(folder.spec_file).decode(errors="replace"),
        baseline=baseline,
        training=None if baseline is not None else baseline_so_far(folder, spec),
        baseline_test=None if tested is None else tested.accuracy,
        records=records,
        groups=groups,
        frontier=front,
        rows=table,
        damaged=len(damaged),
        in_flight=len(names(folder.heartbeats, "*.json")),
        driver="" if holder is None else f"process {holder['pid']} on {holder['host']}",
    )
