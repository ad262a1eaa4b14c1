"""The figure of the frontier over everything else that was tried."""

from collections.abc import Sequence
from typing import Any

from tune_app.drawing.axis import Axis
from tune_app.drawing.frontier_info import STANDINGS, Mark
from tune_app.report.figure import Figure, escaped, guide, refused_marker
from tune_app.report.pareto import ParetoInfo
from tune_app.tables.columns import show
from tune_app.terminal.quantities import show_count

NAME = "pareto"
SYSTEMS = {
    **{"triangle-up-open": "@c1", "diamond-open": "@c2", "square-open": "@c3"},
    **{"pentagon-open": "@c5", "hexagram-open": "@muted"},
}
"""Symbols and colors of earlier systems, in their order."""
CROWD = 40
"""Marks beyond which those of the frontier are smaller."""
FAINT = 2_000
"""Dominated marks beyond which they are fainter."""


def draw_pareto(info: ParetoInfo) -> Figure:
    """The frontier over everything else that was tried."""
    faint = 0.75 if len(info.dominated) <= FAINT else 0.4
    baseline = [info.baseline] if info.baseline else []
    named = f"{info.baseline.label}, fp32" if info.baseline else ""
    data = [
        _marks(info, info.dominated, "dominated", color="@dim", size=7, opacity=faint),
        *(
            _marks(info, marks, STANDINGS[standing], **refused_marker(standing))
            for standing, marks in {"infeasible": info.infeasible, **info.refused}.items()
        ),
        _line(info) if info.stepped else None,
        _front(info),
        *(
            _marks(info, marks, system, color=color, size=10, symbol=symbol, width=2)
            for (system, marks), (symbol, color) in zip(_near(info).items(), SYSTEMS.items(), strict=False)
        ),
        _marks(info, baseline, named, color="@ink", size=15, symbol="star"),
    ]
    return Figure(
        name=NAME,
        title="Accuracy against size" if {info.x.metric, info.y.metric} == {"accuracy", "size_bytes"} else "Frontier",
        words=_words(info),
        data=[trace for trace in data if trace is not None] if info.tried or info.refused else [],
        layout={"xaxis": info.x.layout(), "yaxis": info.y.layout(), "shapes": _bounds(info)},
        height=480,
        linked=True,
    )


def _marks(info: ParetoInfo, marks: Sequence[Mark], name: str, **style: Any) -> dict[str, Any] | None:
    if not marks:
        return None
    width = style.pop("width", 0)
    refused = any(marks is some for some in info.refused.values())
    x, y = info.placed(marks) if refused else ([info.x.scaled(m.x) for m in marks], [info.y.scaled(m.y) for m in marks])
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        **_hover(info, marks, name),
        "marker": {"line": {"width": width, "color": style["color"]}, **style},
    }


def _hover(info: ParetoInfo, marks: Sequence[Mark], name: str) -> dict[str, Any]:
    """Returns the words of marks that are no trials of ours; what trials are, the page says."""
    rows = [mark.row for mark in marks]
    if None not in rows:
        return {"customdata": rows, "hovertemplate": "%{text}<extra></extra>"}
    texts = [
        f"<b>{escaped(name)}</b><br>{escaped(mark.label)}<br>"
        f"{show(info.y.metric, mark.y)}, {show(info.x.metric, mark.x)}"
        for mark in marks
    ]
    return {"text": texts, "hovertemplate": "%{text}<extra></extra>"}


def _front(info: ParetoInfo) -> dict[str, Any] | None:
    """Frontier marks, with a standard deviation where a point ran several times."""
    trace = _marks(info, info.frontier, "frontier", color="@front", size=11 if len(info.frontier) <= CROWD else 7)
    if trace is None:
        return None
    for axis, name, sds in (
        (info.x, "error_x", [mark.x_sd for mark in info.frontier]),
        (info.y, "error_y", [mark.y_sd for mark in info.frontier]),
    ):
        if any(sds):
            bars = [axis.scaled(sd or 0.0) for sd in sds]
            trace[name] = {"type": "data", "array": bars, "color": "@front", "thickness": 1.2, "width": 4}
    trace["marker"]["line"] = {"width": 1, "color": "@surface"}
    return trace


def _line(info: ParetoInfo) -> dict[str, Any] | None:
    """The border of what is reached: between two members the worse value of each holds."""
    if len(info.frontier) < 2:
        return None
    x, y = [info.x.scaled(mark.x) for mark in info.frontier], [info.y.scaled(mark.y) for mark in info.frontier]
    return guide(x, y, shape="hv" if info.x.direction == "minimize" else "vh", color="@front", width=1.5)


def _bounds(info: ParetoInfo) -> list[dict[str, Any]]:
    """A line across the plane at each constraint that lies near the points."""
    found = []
    known = [*info.tried, *([info.baseline] if info.baseline else [])]
    for metric, bound in info.bounds:
        along, across, axis = ("x", "y", info.x) if metric == info.x.metric else ("y", "x", info.y)
        value = axis.scaled(bound)
        if axis.placed([bound], [getattr(mark, along) for mark in known]) != [value]:
            continue  # far outside, where it would press the points together, or no logarithm
        ends = {f"{along}0": value, f"{along}1": value, f"{across}0": 0, f"{across}1": 1, f"{across}ref": "paper"}
        line = {"color": "@outside", "width": 1, "dash": "dash"}
        found.append({"type": "line", **ends, "line": line, "layer": "between"})
    return found


def _refused(info: ParetoInfo) -> list[str]:
    """Says how many points were refused, and where they are drawn."""
    found = []
    for standing, marks in info.refused.items():
        told = f"{len(marks):,} {STANDINGS[standing]}"
        exact = ([info.x.scaled(mark.x) for mark in marks], [info.y.scaled(mark.y) for mark in marks])
        found.append(f"{told}, at the edge where they lie far outside." if info.placed(marks) != exact else f"{told}.")
    return found


def _near(info: ParetoInfo) -> dict[str, tuple[Mark, ...]]:
    """Returns the marks of other systems that lie among our own points, which decide what is seen, by system.

    A system keeps its symbol, and its place, where none of its marks is there.
    """
    marks = [*info.tried, *([info.baseline] if info.baseline else [])]
    (left, right), (low, high) = (
        _padded([getattr(mark, name) for mark in marks], axis) for name, axis in (("x", info.x), ("y", info.y))
    )
    return {
        system: tuple(mark for mark in some if left <= mark.x <= right and low <= mark.y <= high)
        for system, some in (info.published if marks else {}).items()
    }


def _padded(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    if axis.log:
        return low / 1.3, high * 1.3
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def _words(info: ParetoInfo) -> str:
    tried = len(info.tried)
    if not tried:
        return " ".join(["No trial of the full schedule has a result yet.", *_refused(info)])
    parts = [f"{len(info.frontier):,} of {show_count(tried, 'point')} on the frontier"]
    if info.frontier:
        first, last = info.frontier[0], info.frontier[-1]
        ends = [f"{show(info.y.metric, m.y)} at {show(info.x.metric, m.x)}" for m in (first, last)]
        parts[0] += f": from {ends[0]} to {ends[1]}." if len(info.frontier) > 1 else f": {ends[0]}."
    if info.infeasible:
        parts.append(f"{len(info.infeasible):,} outside the constraints.")
    parts += _refused(info)
    if _bounds(info):
        parts.append("Dashed lines are constraints.")
    if info.baseline:
        parts.append(f"The {info.baseline.label} in fp32 has {show(info.y.metric, info.baseline.y)}.")
    if any(mark.x_sd or mark.y_sd for mark in info.frontier):
        parts.append("A point that ran several times lies at the mean of its runs; bars are one standard deviation.")
    near, every = (sum(map(len, found.values())) for found in (_near(info), info.published))
    if near:
        of = f" ({near} of {every}: the others lie outside)" if near < every else ""
        parts.append(
            f"Open marks are earlier systems on the same data{of}, with the accuracy that they published and a ratio "
            "by a formula of their own, not of a file."
        )
    return " ".join(parts)
