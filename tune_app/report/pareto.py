"""Every trial in the plane of the first two objectives, and what it is compared with: what a figure shows.

Points of five earlier systems are marks to compare with. Their accuracies are as they were published. Their ratios
follow from formulas of their own, not from files, so a mark says where a system saw itself, not where it would lie if
it were measured here.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from tune_app.drawing.frontier_info import FrontierInfo, Mark, Standing, arranged, plane_of
from tune_app.report.contents import Contents

SIZED = {"size_bytes", "compression_ratio"}


@dataclass(frozen=True)
class ParetoInfo(FrontierInfo):
    """What the figure of a report shows, in the units of the objectives."""

    published: Mapping[str, tuple[Mark, ...]]
    """Points of other systems, by system."""
    bounds: tuple[tuple[str, float], ...]
    """Constraints on the two metrics."""


@dataclass(frozen=True)
class PublishedPoint:
    """A point that a system reported."""

    system: str
    """The name of the system's recipe."""
    label: str
    accuracy: float
    ratio: float


def pareto_info(contents: Contents) -> ParetoInfo:
    """Finds where the trials of the full schedule lie."""
    x, y = plane_of(contents.spec)
    return ParetoInfo(
        **vars(arranged(_marks(contents, x, y), contents.spec, contents.baseline)),
        published=_published(contents, x, y),
        bounds=tuple((c.metric, c.bound) for c in contents.spec.constraints if c.metric in {x, y}),
    )


def published_points(dataset: str) -> tuple[PublishedPoint, ...]:
    """Returns the published points of a data set, by its name in a spec; none for most."""
    systems = tomllib.loads((files("tune_app.report") / "published.toml").read_text("utf-8"))["systems"]
    return tuple(
        PublishedPoint(system["system"], **point)
        for system in systems
        if system["dataset"] == dataset
        for point in system["points"]
    )


def _marks(contents: Contents, x: str, y: str) -> Iterator[tuple[Standing, Mark]]:
    """Yields a mark for each point that was measured, at the means of its runs."""
    for group in contents.groups:
        standing, at_x, at_y = contents.standing(group), contents.measured(group, x), contents.measured(group, y)
        if standing is not None and at_x is not None and at_y is not None:
            row = contents.row_of(group)
            x_sd, y_sd = (group.sd.get(name) or None for name in (x, y))
            yield standing, Mark(contents.label(row), at_x, at_y, row, x_sd, y_sd)


def _published(contents: Contents, x: str, y: str) -> dict[str, tuple[Mark, ...]]:
    """Finds points of earlier systems on the same data: by ratio, or by the bytes that it leaves of our baseline."""
    if contents.baseline is None or {x, y} - {"accuracy"} - SIZED or "accuracy" not in {x, y}:
        return {}
    whole = contents.baseline.size_bytes
    found: dict[str, tuple[Mark, ...]] = {}
    for point in published_points(contents.spec.base.data.name):
        known = {"accuracy": point.accuracy, "compression_ratio": point.ratio, "size_bytes": whole / point.ratio}
        mark = Mark(f"{point.label} ({point.ratio:g}x by its own formula)", known[x], known[y])
        found[point.system] = (*found.get(point.system, ()), mark)
    return found
