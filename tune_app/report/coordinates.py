"""Parallel coordinates: parameters, then what was measured, one line per point."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tune_app.drawing.axis import axis_of
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, cut, escaped
from tune_app.tables.columns import MAIN, short, show
from tune_app.terminal.quantities import show_count

NAME = "parallel"
FEW = 9
"""Up to so many values, each is written at its axis; and up to so many axes by name above the figure."""
MOST = 2_000
"""Lines that are drawn at once; more are one gray surface."""
CROWD = 40
"""Lines of the frontier beyond which they are thinner."""
LETTER_PX, TITLE_CHARS = 7.5, 15
"""Room of a letter of an axis' name, and the letters that are written."""
ABSENT = -0.08
"""Height of a conditional parameter that a point does not have."""


@dataclass(frozen=True)
class Dimension:
    """One axis: a column of the table, and its values as heights in [0, 1] with what is written at some of them.

    `low`, `high` and `log` say how a height becomes a value again; `names` are those of a column that is no number.
    """

    column: str
    title: str
    heights: tuple[float | None, ...]
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CoordinatesInfo:
    """What the figure shows: points of the full schedule with a result; `kinds` are as in the Pareto figure."""

    dimensions: tuple[Dimension, ...]
    rows: tuple[int, ...]
    kinds: tuple[str, ...]


def coordinates_info(contents: Contents) -> CoordinatesInfo:
    """Parameters in the order of the space, then objectives, accuracy, size and ratio."""
    groups = [group for group in contents.groups if group.mean]
    rows = [contents.row_of(group) for group in groups]
    members = {contents.row_of(group) for group in contents.frontier}
    params = [_parameter(name, [contents.rows[row].get(name) for row in rows]) for name in contents.spec.space.root]
    measured = []
    for name in dict.fromkeys([*MAIN, *contents.spec.objectives]):
        values = [contents.value(group, name) for group in groups]
        measured.append(_numbers(name, values, label=partial(show, name), log=axis_of(name, contents.spec, values).log))
    kinds = (
        "frontier" if row in members else "dominated" if group.feasible else "infeasible"
        for row, group in zip(rows, groups, strict=True)
    )
    return CoordinatesInfo(dimensions=(*params, *measured), rows=tuple(rows), kinds=tuple(kinds))


def draw_coordinates(info: CoordinatesInfo) -> Figure:
    """Few traces with many lines each: one trace per line would hold up no sweep of thousands."""
    crowded = info.kinds.count("frontier") > CROWD
    longest = max((len(dimension.title) for dimension in info.dimensions), default=0)
    styles = {
        "dominated": ("@dim", 1, 0.45),
        "infeasible": ("@outside", 1, 0.6),
        "frontier": ("@front", 1.0 if crowded else 2.2, 0.8 if crowded else 0.95),
    }
    return Figure(
        name=NAME,
        title="Parallel coordinates",
        words=_words(info),
        data=[_lines(info, kind, *style) for kind, style in styles.items() if kind in info.kinds],
        layout=_layout(info),
        height=400,
        least_width=round(len(info.dimensions) * (16 + LETTER_PX * min(longest, TITLE_CHARS))),
        linked=True,
        most=MOST,
    )


def _parameter(name: str, values: Sequence[float | int | str | None]) -> Dimension:
    if any(isinstance(value, str) for value in values):
        return _named(name, [None if value is None else str(value) for value in values])
    numbers = [None if value is None else float(value) for value in values]
    return _numbers(name, numbers, label="{:g}".format, between="{:.3g}".format)


def _named(name: str, values: Sequence[str | None]) -> Dimension:
    names = tuple(sorted({value for value in values if value is not None}))
    place = {value: i / max(1, len(names) - 1) for i, value in enumerate(names)}
    heights = tuple(None if value is None else place[value] for value in values)
    ticks = tuple((height, value) for value, height in place.items())
    return Dimension(name, short(name), heights, ticks, 0.0, float(len(names) - 1), names=names)


def _numbers(
    name: str,
    values: Sequence[float | None],
    *,
    label: Callable[[float], str],
    between: Callable[[float], str] | None = None,
    log: bool = False,
) -> Dimension:
    """Ticks of many values are five from end to end; `between` writes these, as `label` does unless given."""
    known = sorted({value for value in values if value is not None})
    low, high = (known[0], known[-1]) if known else (0.0, 1.0)

    def height(value: float) -> float:
        if high == low:
            return 0.5
        return round(math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low), 5)

    few = not known or (len(known) <= FEW and not log)
    even = np.geomspace if log else np.linspace
    shown, written = (known, label) if few else (even(low, high, 5).tolist(), between or label)
    return Dimension(
        column=name,
        title=short(name),
        heights=tuple(None if value is None else height(value) for value in values),
        ticks=tuple((height(value), written(value)) for value in shown),
        low=low,
        high=high,
        log=log,
    )


def _lines(info: CoordinatesInfo, kind: str, color: str, width: float, opacity: float) -> dict[str, Any]:
    """Returns all lines of a kind as one, with a gap after each."""
    places = [i for i, one in enumerate(info.kinds) if one == kind]
    heights = [[d.heights[i] for d in info.dimensions] for i in places]
    axes = len(info.dimensions)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "outside the constraints" if kind == "infeasible" else kind,
        "x": [*range(axes), None] * len(places),
        "y": [y for line in heights for y in (*(ABSENT if height is None else height for height in line), None)],
        "customdata": [info.rows[i] for i in places for _ in range(axes + 1)],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": color, "width": width, "dash": "dot" if kind == "infeasible" else "solid"},
        "opacity": opacity,
    }


def _layout(info: CoordinatesInfo) -> dict[str, Any]:
    places = list(range(len(info.dimensions)))
    line = {"color": "@muted", "width": 1}
    return {
        "xaxis": {
            "tickvals": places,
            "ticktext": [f"<b>{escaped(cut(dimension.title, TITLE_CHARS))}</b>" for dimension in info.dimensions],
            "range": [-0.35, len(places) - 0.65],
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "side": "top",
            "fixedrange": True,
        },
        "yaxis": {"range": [-0.12, 1.05], "visible": False, "fixedrange": True},
        "shapes": [
            {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line, "layer": "below"} for x in places
        ],
        "annotations": [
            {
                "x": x,
                "y": y,
                "text": escaped(text),
                "showarrow": False,
                "xanchor": "right",
                "xshift": -4,
                "font": {"size": 11, "color": "@muted"},
                "bgcolor": "@surface",
                "borderpad": 1,
            }
            for x, dimension in enumerate(info.dimensions)
            for y, text in [*dimension.ticks, *([(ABSENT, "–")] if None in dimension.heights else [])]
        ],
        "legend": {"y": 0, "yanchor": "top"},
        "margin": {"l": 40, "r": 24, "t": 36, "b": 32},
        "dragmode": False,
    }


def _words(info: CoordinatesInfo) -> str:
    if not info.rows:
        return "No trial of the full schedule has a result yet."
    names = ", ".join(dimension.title for dimension in info.dimensions)
    through = names if len(info.dimensions) <= FEW else f"{len(info.dimensions)} columns"
    lines = f"{show_count(len(info.rows), 'point')}, each a line through {through}."
    return f"{lines} Drag along an axis to filter by it; a double click lets go."
