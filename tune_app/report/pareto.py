"""Every trial in the plane of the first two objectives, and what it is compared with: what a figure shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tune_app.drawing.frontier_info import FrontierInfo, Mark, Standing, arranged, plane_of
from tune_app.report.contents import Contents
from tune_app.report.published import published_points

SIZED = {"size_bytes", "compression_ratio"}


@dataclass(frozen=True)
class ParetoInfo(FrontierInfo):
    """What the figure of a report shows, in the units of the objectives."""

    published: Mapping[str, tuple[Mark, ...]]
    """Points of other systems, by system."""
    bounds: tuple[tuple[str, float], ...]
    """Constraints on the two metrics."""


def pareto_info(contents: Contents) -> ParetoInfo:
    """Finds where the trials of the full schedule lie."""
    x, y = plane_of(contents.spec)
    return ParetoInfo(
        **vars(arranged(_marks(contents, x, y), contents.spec, contents.baseline)),
        published=_published(contents, x, y),
        bounds=tuple((c.metric, c.bound) for c in contents.spec.constraints if c.metric in {x, y}),
    )


def _marks(contents: Contents, x: str, y: str) -> Iterator[tuple[Standing, Mark]]:
    """Yields a mark for each point with a result, at the means of its runs."""
    members = set(map(contents.row_of, contents.frontier))
    for group in contents.groups:
        if group.mean:
            row = contents.row_of(group)
            place, sds = (contents.value(group, x), contents.value(group, y)), (group.sd.get(x), group.sd.get(y))
            mark = Mark(contents.label(row), *place, row, *(sd or None for sd in sds))
            yield "frontier" if row in members else "dominated" if group.feasible else "infeasible", mark


def _published(contents: Contents, x: str, y: str) -> dict[str, tuple[Mark, ...]]:
    """Finds points of earlier systems on the same data: by ratio, or by the bytes that it leaves of our baseline."""
    if contents.baseline is None or {x, y} - {"accuracy"} - SIZED or "accuracy" not in {x, y}:
        return {}
    whole = contents.baseline.size_bytes
    found: dict[str, list[Mark]] = {}
    for point in published_points(contents.spec.base.data.name):
        known = {"accuracy": point.accuracy, "compression_ratio": point.ratio, "size_bytes": whole / point.ratio}
        label = f"{point.label} ({point.ratio:g}x by its own formula)"
        found.setdefault(point.system, []).append(Mark(label, known[x], known[y]))
    return {system: tuple(marks) for system, marks in found.items()}
