"""The points of an experiment, what the runs of each say together, and which points are on the frontier.

A point is a configuration of the search space; it may have run several times with other random numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from search_spaces.rungs import FULL
from tune_app.frontier.objectives import costs_of, is_feasible, judged
from tune_app.frontier.pareto import contributions, costs, hypervolume, non_dominated
from tune_app.ledger.ledger import Params, TrialRecord
from tune_app.spec.experiment import ExperimentSpec

Point = frozenset[tuple[str, float | int | str]]
MAIN = ("accuracy", "size_bytes", "compression_ratio")
"""What is said of a point everywhere, whatever the objectives are."""


@dataclass(frozen=True)
class PointRuns:
    """The runs of one point with the full schedule, and what the complete ones of them say together."""

    point: Point
    runs: Mapping[int, TrialRecord]
    """Its runs by the number of their repeat, whatever their state."""
    mean: Mapping[str, float]
    """Means by objective, bounded column, and those of MAIN; empty without a complete run."""
    sd: Mapping[str, float]
    """Sample standard deviations by the same columns; empty with fewer than two complete runs."""
    feasible: bool
    """Whether there is a complete run, and the means keep the constraints."""
    complete: Sequence[TrialRecord]
    """The runs with a usable result: one that has every objective and bounded column."""

    @property
    def first(self) -> TrialRecord:
        """The run whose file stands for the point: the first one with a usable result, else the first one."""
        return next(iter(self.complete or self.runs.values()))


def point_of(params: Params) -> Point:
    """Returns what all runs of a point have in common."""
    return frozenset(params.items())


def group_runs(records: Iterable[TrialRecord], spec: ExperimentSpec) -> list[PointRuns]:
    """Groups records of the full rung by their points, in order of proposal.

    Of several records of one run the newest counts: the others are of an earlier version of a stage.
    """
    runs: dict[Point, dict[int, TrialRecord]] = {}
    for record in sorted(records, key=lambda r: (r.assignment.number, r.assignment.attempt)):
        work = record.assignment
        if work.rung == FULL:
            runs.setdefault(point_of(work.params), {})[work.repeat] = record
    return [_group(point, dict(sorted(found.items())), spec) for point, found in runs.items()]


def mean_costs(groups: Sequence[PointRuns], spec: ExperimentSpec) -> np.ndarray:
    """Returns the mean objectives of points with a usable result, as costs, (points, objectives)."""
    values = np.array([[group.mean[name] for name in spec.objectives] for group in groups], dtype=np.float64)
    return costs(values.reshape(-1, len(spec.objectives)), list(spec.objectives.values()))


def frontier(groups: Sequence[PointRuns], spec: ExperimentSpec) -> list[PointRuns]:
    """Returns the feasible points whose means no other one dominates.

    They come in rising order of the first minimized objective, or best first of the first one.
    """
    feasible = [group for group in groups if group.feasible]
    matrix = mean_costs(feasible, spec)
    members = np.flatnonzero(non_dominated(matrix))
    directions = list(spec.objectives.values())
    first = directions.index("minimize") if "minimize" in directions else 0
    return [feasible[i] for i in members[np.argsort(matrix[members, first], kind="stable")]]


def frontier_volume(front: Sequence[PointRuns], spec: ExperimentSpec, reference: Mapping[str, float]) -> float:
    """Returns the hypervolume of the means of a frontier, up to a reference point, in the product of the units."""
    return hypervolume(mean_costs(front, spec), costs_of(reference, spec))


def frontier_contributions(
    front: Sequence[PointRuns], spec: ExperimentSpec, reference: Mapping[str, float]
) -> list[float]:
    """Returns what each point alone adds to `frontier_volume`, in the order of the frontier."""
    return [float(gain) for gain in contributions(mean_costs(front, spec), costs_of(reference, spec))]


def _group(point: Point, runs: Mapping[int, TrialRecord], spec: ExperimentSpec) -> PointRuns:
    found = [(run, metrics) for run in runs.values() if (metrics := judged(run, spec))]
    rows, names = [metrics for _, metrics in found], dict.fromkeys([*spec.metrics, *MAIN]) if found else ()
    means = {name: fmean(row[name] for row in rows) for name in names}
    return PointRuns(
        point=point,
        runs=runs,
        mean=means,
        sd={name: stdev(row[name] for row in rows) for name in names} if len(rows) > 1 else {},
        feasible=is_feasible(means, spec),
        complete=[run for run, _ in found],
    )


def frontier_ids(records: Sequence[TrialRecord], spec: ExperimentSpec) -> list[str]:
    """Returns the trials that stand for the points of the frontier, in its order."""
    return [group.first.assignment.trial_id for group in frontier(group_runs(records, spec), spec)]
