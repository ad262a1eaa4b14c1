"""What every figure of a frontier shows, as data: a search and its baseline in the plane of two metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainables.errors import Collapsed
from tune_app.drawing.axis import Axis, axis_of
from tune_app.ledger.baseline import BaselineInfo, caveat, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import failure_kind
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import known_trials
from tune_app.tables.columns import direction
from tune_app.tables.point_rows import parameters_of, runs_by_point

Standing = Literal["dominated", "infeasible", "chance", "invalid", "frontier"]
STANDINGS: dict[Standing, str] = {
    "dominated": "dominated",
    "infeasible": "outside the constraints",
    "chance": "at chance",
    "invalid": "invalid",
    "frontier": "frontier",
}
"""What figures call points of each standing, in the order in which they are drawn.

A point at chance was refused for its accuracy, an invalid one for something else.
"""
REFUSED: tuple[Standing, ...] = ("chance", "invalid")
"""The standings of points without a result."""


@dataclass(frozen=True)
class Mark:
    """A point of the plane: one configuration at the means of its runs, the baseline, or a point of another system."""

    label: str
    x: float
    y: float
    row: int | None = None
    """In a report the row of its trial; None for what is no trial of ours."""
    x_sd: float | None = None
    y_sd: float | None = None
    w_bits: int | None = None
    """Bits of its weights, where they were searched."""


@dataclass(frozen=True)
class FrontierInfo:
    """What a figure of a frontier shows, in the units of the metrics."""

    experiment: str
    x: Axis
    y: Axis
    dominated: tuple[Mark, ...]
    frontier: tuple[Mark, ...]
    """Its members, rising along x."""
    infeasible: tuple[Mark, ...]
    """Points that break a constraint."""
    refused: Mapping[Standing, tuple[Mark, ...]]
    """Points that were measured and are no result, by their standing."""
    baseline: Mark | None
    stepped: bool
    """Whether the frontier is a line in this plane: with a third objective it is not."""
    caveat: str
    """What is written over it; empty: nothing."""

    @property
    def tried(self) -> tuple[Mark, ...]:
        """The points of the search with a result, on the frontier or not."""
        return (*self.dominated, *self.frontier, *self.infeasible)

    def placed(self, marks: Sequence[Mark]) -> tuple[list[float], list[float]]:
        """Returns where marks lie along both axes, in their units: one far outside the points with a result, and the
        baseline, at their edge."""
        among = [*self.tried, *([self.baseline] if self.baseline else [])]
        x = self.x.placed([mark.x for mark in marks], [mark.x for mark in among])
        return x, self.y.placed([mark.y for mark in marks], [mark.y for mark in among])


def refusal(state: str, reason: str | None) -> Standing | None:
    """Returns the standing of a trial that ended without a result; None of one that says nothing of its point."""
    if state != "invalid":
        return None
    return "chance" if failure_kind(reason) == Collapsed.__name__ else "invalid"


def plane_of(spec: ExperimentSpec) -> tuple[str, str]:
    """Returns the metrics along x and y: the first two objectives, filled up with accuracy and size.

    A maximized one stands upright.
    """
    first, second, *_ = dict.fromkeys([*spec.objectives, "accuracy", "size_bytes"])
    return (second, first) if direction(first, spec) == "maximize" else (first, second)


def arranged(
    marks: Iterable[tuple[Standing, Mark]], spec: ExperimentSpec, baseline: BaselineInfo | None
) -> FrontierInfo:
    """Arranges marks of a search, and its baseline, in the plane of a spec."""
    x, y = plane_of(spec)
    found: dict[Standing, list[Mark]] = {standing: [] for standing in STANDINGS}
    for standing, mark in marks:
        found[standing].append(mark)
    known = {} if baseline is None else baseline.metrics()
    star = Mark(baseline.title, known[x], known[y]) if baseline is not None and known.keys() >= {x, y} else None
    results = [*found["dominated"], *found["frontier"], *found["infeasible"]]
    # Points without a result decide no axis, unless there is nothing else.
    shown = [*(results or [mark for name in REFUSED for mark in found[name]]), *([star] if star else [])]
    return FrontierInfo(
        experiment=spec.name,
        x=axis_of(x, spec, [mark.x for mark in shown]),
        y=axis_of(y, spec, [mark.y for mark in shown]),
        dominated=tuple(found["dominated"]),
        frontier=tuple(sorted(found["frontier"], key=lambda mark: (mark.x, mark.y))),
        infeasible=tuple(found["infeasible"]),
        refused={name: tuple(found[name]) for name in REFUSED if found[name]},
        baseline=star,
        stepped=set(spec.objectives) == {x, y},
        caveat=caveat(spec),
    )


def frontier_info(folder: ExperimentFolder) -> FrontierInfo:
    """Reads what the figure of an experiment shows now.

    Raises:
        CorruptFile: the stored spec or the baseline's measurement is damaged.
    """
    spec = folder.read_spec()
    x, y = plane_of(spec)
    marks: list[tuple[Standing, Mark]] = []
    table = known_trials(folder)
    for runs in runs_by_point(table.to_pylist(), parameters_of(table)):
        measured = [run for run in runs if run[x] is not None and run[y] is not None]
        for row in sorted(measured, key=lambda run: run["state"] != "complete")[:1]:  # the first usable one, if any is
            if standing := _standing(row):
                marks.append((standing, Mark(row["label"], _mean(row, x), _mean(row, y), w_bits=row.get("w_bits"))))
    return arranged(marks, spec, read_baseline(folder))


def _standing(row: Mapping[str, Any]) -> Standing | None:
    """Returns the standing of a row of the table of trials."""
    if row["state"] != "complete":
        return refusal(row["state"], row["reason"])
    return "frontier" if row["on_frontier"] else "dominated" if row["feasible"] else "infeasible"


def _mean(row: Mapping[str, Any], metric: str) -> float:
    """Returns what all runs of a row's point say of a metric where that is known, or else what this run says."""
    together = row.get(f"{metric}_mean")
    return float(row[metric] if together is None else together)
