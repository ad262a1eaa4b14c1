"""Every trial in the plane of the first two objectives, and what it is compared with: what a figure shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from tune_app.drawing.axis import Axis, axis_of
from tune_app.frontier.points import Group
from tune_app.report.contents import Contents
from tune_app.report.published import published_points
from tune_app.tables.columns import direction

SIZED = {"size_bytes", "compression_ratio"}


@dataclass(frozen=True)
class Mark:
    """A point of the plane; `row` is its trial's, None for what is no trial of ours."""

    label: str
    x: float
    y: float
    row: int | None = None
    x_sd: float | None = None
    y_sd: float | None = None


@dataclass(frozen=True)
class ParetoInfo:
    """What the figure shows, in the units of the objectives.

    A point that ran several times is one mark, at the means of its runs. `frontier` rises along x; `stepped` says
    whether it is a line in this plane: with a third objective it is not. `published` are marks by system.
    """

    x: Axis
    y: Axis
    dominated: tuple[Mark, ...]
    frontier: tuple[Mark, ...]
    infeasible: tuple[Mark, ...]
    baseline: Mark | None
    published: Mapping[str, tuple[Mark, ...]]
    bounds: tuple[tuple[str, float], ...]
    """Constraints on these two columns."""
    stepped: bool

    @property
    def tried(self) -> tuple[Mark, ...]:
        """All trials that are shown."""
        return (*self.dominated, *self.frontier, *self.infeasible)


def pareto_info(contents: Contents) -> ParetoInfo:
    """Where the trials of the full schedule lie."""
    x, y = axes_of(contents)
    found: dict[str, list[Mark]] = {"dominated": [], "frontier": [], "infeasible": []}
    members = {contents.row_of(group) for group in contents.frontier}
    for group in contents.groups:
        if group.mean:
            mark = _mark(contents, group, x, y)
            kind = "frontier" if mark.row in members else "dominated" if group.feasible else "infeasible"
            found[kind].append(mark)
    baseline = _baseline(contents, x, y)
    ours = [mark for marks in found.values() for mark in marks] + ([baseline] if baseline else [])
    return ParetoInfo(
        x=axis_of(x, contents.spec, [mark.x for mark in ours]),
        y=axis_of(y, contents.spec, [mark.y for mark in ours]),
        dominated=tuple(found["dominated"]),
        frontier=tuple(sorted(found["frontier"], key=lambda mark: (mark.x, mark.y))),
        infeasible=tuple(found["infeasible"]),
        baseline=baseline,
        published=_published(contents, x, y),
        bounds=tuple((c.metric, c.bound) for c in contents.spec.constraints if c.metric in {x, y}),
        stepped=set(contents.spec.objectives) == {x, y},
    )


def axes_of(contents: Contents) -> tuple[str, str]:
    """The first two objectives, filled up with accuracy and size; a maximized one stands upright."""
    first, second, *_ = dict.fromkeys([*contents.spec.objectives, "accuracy", "size_bytes"])
    return (second, first) if direction(first, contents.spec) == "maximize" else (first, second)


def _mark(contents: Contents, group: Group, x: str, y: str) -> Mark:
    row = contents.row_of(group)
    return Mark(
        label=contents.label(row),
        x=contents.value(group, x),
        y=contents.value(group, y),
        row=row,
        x_sd=group.sd.get(x) or None,
        y_sd=group.sd.get(y) or None,
    )


def _baseline(contents: Contents, x: str, y: str) -> Mark | None:
    if contents.baseline is None:
        return None
    known = contents.baseline.metrics()
    return Mark(contents.baseline.title, known[x], known[y])


def _published(contents: Contents, x: str, y: str) -> dict[str, tuple[Mark, ...]]:
    """Marks of earlier systems on the same data: by ratio, or by the bytes that this ratio leaves of our baseline."""
    if contents.baseline is None or {x, y} - {"accuracy"} - SIZED or "accuracy" not in {x, y}:
        return {}
    whole = contents.baseline.size_bytes
    found: dict[str, list[Mark]] = {}
    for point in published_points(contents.spec.base.data.name):
        known = {"accuracy": point.accuracy, "compression_ratio": point.ratio, "size_bytes": whole / point.ratio}
        label = f"{point.label} ({point.ratio:g}x by its own formula)"
        found.setdefault(point.system, []).append(Mark(label, known[x], known[y]))
    return {system: tuple(marks) for system, marks in found.items()}
