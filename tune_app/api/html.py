"""The small page that a notebook shows of an experiment: how far it is, its best points, its frontier."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.errors import TuneAppError
from trainables.storage import exists
from tune_app.drawing.axis import Axis
from tune_app.drawing.frontier_info import FrontierInfo, Mark, frontier_info
from tune_app.findings.frontier_points import FrontierPoint
from tune_app.findings.summary import ExperimentSummary, summarize
from tune_app.frontier.points import MAIN
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.report.templates import fill
from tune_app.run.search import is_spent
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.columns import short, show
from tune_app.terminal.quantities import show_count, show_done, show_points

LEFT_PX, TOP_PX, WIDE_PX, HIGH_PX = 64, 10, 300, 160
"""The plane of the figure inside its margins, which hold the values at the ends of both axes."""
AGAINST = "against the baseline"
MOST = 300
"""Marks that are drawn beside the frontier; more would fill a notebook's file and hide each other."""


@dataclass(frozen=True)
class Dot:
    """A mark of the figure, in pixels, and what it says when it is pointed at."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Figure:
    """All trials and the frontier in the plane of two metrics, as `experiment.html.j2` draws them."""

    front: Sequence[Dot]
    others: Sequence[Dot]
    baseline: Dot | None
    steps: str
    """The border of what is reached, as a path of SVG; empty where the frontier is no line in this plane."""
    ends: Mapping[str, str]
    """The values at the ends of both axes, and their titles."""
    left_out: int
    """Trials that are not drawn."""


def experiment_html(folder: ExperimentFolder, spec: ExperimentSpec | None) -> str:
    """Returns an experiment as HTML without scripts; all that comes from records is escaped.

    What cannot be read is said in its place. `spec` is that of an experiment which may not have begun.
    """
    said = dict.fromkeys(("state", "trials", "failed", "problem"), "")
    values: dict[str, Any] = {"path": str(folder.path), "name": folder.path.name, **said}
    try:
        if spec is not None and not exists(folder.spec_file):
            begun = f"{show_count(spec.space.size, 'point')} to search, {show_count(spec.budget.trials, 'trial')}"
            values |= {"state": "not started", "trials": begun}
        else:
            values |= _values(folder)
    except TuneAppError as err:
        values["problem"] = str(err)
    return fill("api/experiment.html.j2", **values)


def _values(folder: ExperimentFolder) -> dict[str, Any]:
    """Returns what the template says of an experiment that has begun."""
    running, found, spec = Lease(folder).is_taken, summarize(folder), folder.read_spec()
    finished = is_spent(found.totals, spec, retry_failed=False)
    failed = sum(found.totals.failures.values())
    baseline = found.baseline
    return {
        "name": found.experiment,
        "state": "running" if running else "finished" if finished else "stopped",
        "trials": show_done(found.totals.done, found.budget),
        "share": min(1.0, found.totals.done / found.budget),
        "failed": f"{failed:,} without a result" if failed else "",
        "caveat": found.caveat,
        "baseline": "" if baseline is None else f"{baseline.title}: {_listed(baseline.metrics(), MAIN[:2])} in fp32",
        "heads": ["best", "point", *map(short, _columns(found)), *([AGAINST] if baseline is not None else [])],
        "rows": [_row(names, point, found) for names, point in _distinct(found.best)],
        "findings": [finding.text for finding in found.findings],
        "figure": _figure(frontier_info(folder)),
    }


def _columns(found: ExperimentSummary) -> list[str]:
    """Returns the columns of the table of best points: what is said everywhere, and further objectives."""
    return list(dict.fromkeys([*MAIN, *found.objectives]))


def _distinct(best: Mapping[str, FrontierPoint]) -> list[tuple[str, FrontierPoint]]:
    """Returns each best point once, with all that it is best in."""
    names: dict[str, list[str]] = {}
    for name, point in best.items():
        names.setdefault(point.trial_id, []).append(name)
    points = {point.trial_id: point for point in best.values()}
    return [(", ".join(names[trial_id]), point) for trial_id, point in points.items()]


def _row(names: str, point: FrontierPoint, found: ExperimentSummary) -> list[str]:
    change = [] if found.baseline is None else [show_points(point.values["accuracy"] - found.baseline.accuracy)]
    return [names, point.label, *(show(name, point.values[name]) for name in _columns(found)), *change]


def _listed(values: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(show(name, values[name]) for name in names)


def _figure(info: FrontierInfo) -> Figure | None:
    """Returns what is drawn of a frontier; None before the first complete trial."""
    if not info.tried:
        return None
    beside = [*info.dominated, *info.infeasible]
    others = beside[:: -(-len(beside) // MOST) or 1]
    shown = [*info.frontier, *others, *([info.baseline] if info.baseline else [])]
    x_place, x_ends = _scale(info.x, [mark.x for mark in shown])
    y_place, y_ends = _scale(info.y, [mark.y for mark in shown])

    def dot(mark: Mark) -> Dot:
        text = f"{mark.label}: {show(info.y.metric, mark.y)}, {show(info.x.metric, mark.x)}"
        return Dot(LEFT_PX + WIDE_PX * x_place(mark.x), TOP_PX + HIGH_PX * (1 - y_place(mark.y)), text)

    front = [dot(mark) for mark in info.frontier]
    return Figure(
        front=front,
        others=[dot(mark) for mark in others],
        baseline=None if info.baseline is None else dot(info.baseline),
        steps=_steps(front, across_first=info.x.direction == "minimize") if info.stepped else "",
        ends={
            **{"x_title": info.x.column.title, "x_low": x_ends[0], "x_high": x_ends[1]},
            **{"y_title": info.y.column.title, "y_low": y_ends[0], "y_high": y_ends[1]},
        },
        left_out=len(beside) - len(others),
    )


def _scale(axis: Axis, values: Sequence[float]) -> tuple[Callable[[float], float], tuple[str, str]]:
    """Returns where a value lies on an axis, 0 to 1, and what stands at its ends."""
    low, high = min(values), max(values)

    def along(value: float) -> float:
        return math.log(value) if axis.log else value

    span = along(high) - along(low)
    ends = show(axis.metric, low), show(axis.metric, high) if high > low else ""
    return lambda value: (along(value) - along(low)) / span if span else 0.5, ends


def _steps(front: Sequence[Dot], *, across_first: bool) -> str:
    """Returns the path through the frontier: between two members, the worse value of each holds."""
    if not front:
        return ""
    turn = [f"H{dot.x:.1f}V{dot.y:.1f}" if across_first else f"V{dot.y:.1f}H{dot.x:.1f}" for dot in front[1:]]
    return "".join([f"M{front[0].x:.1f} {front[0].y:.1f}", *turn])
