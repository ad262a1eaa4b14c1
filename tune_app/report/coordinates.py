"""Parallel coordinates: parameters, then what was measured, one line per point."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tune_app.drawing.axis import axis_of
from tune_app.drawing.frontier_info import REFUSED, STANDINGS, Standing
from tune_app.frontier.points import MAIN
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, cut, escaped
from tune_app.tables.columns import short, show
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
"""Height of what a point does not have: a conditional parameter, or a measurement."""
BEYOND = 0.04
"""How far beyond an axis the value of a point without a result is drawn that lies outside those of the others."""
ROW_PX, NARROW_PX, DIGIT_PX = 62, 300, 6.6
"""Height of an axis in a figure that is drawn upright, the length of an axis where that is least, and the width of a
letter at a tick."""
TICK_GAP = 0.06
"""The least distance of two ticks that are written at an axis, in parts of its length."""
NAME_CHARS = 14
"""Letters of a value's name that are written at an axis."""
STYLES: dict[Standing, tuple[str, float, float, str]] = {
    "dominated": ("@dim", 1, 0.45, "solid"),
    "infeasible": ("@outside", 1, 0.6, "dot"),
    "chance": ("@outside", 1.4, 0.8, "dash"),
    "invalid": ("@c3", 1.4, 0.9, "dashdot"),
    "frontier": ("@front", 2.2, 0.95, "solid"),
}
"""Color, width, opacity and dashes of the lines of each standing."""

LABEL_CHARS = 36
"""The letters of a name that stands above its axis."""
AXIS = {"line": {"color": "@muted", "width": 1}, "layer": "below"}
TICK = {"showarrow": False, "font": {"size": 11, "color": "@muted"}, "bgcolor": "@surface", "borderpad": 1}
HEADING = {"showarrow": False, "yanchor": "bottom", "yshift": 2, "bgcolor": "@surface", "borderpad": 1}


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
    """What the figure shows: points of the full schedule that came out somehow, with a result or without."""

    dimensions: tuple[Dimension, ...]
    rows: tuple[int, ...]
    kinds: tuple[Standing, ...]
    """How each of these points came out."""


def coordinates_info(contents: Contents) -> CoordinatesInfo:
    """Parameters in the order of the space, then objectives, accuracy, size and ratio."""
    known = [(group, standing) for group in contents.groups if (standing := contents.standing(group)) is not None]
    rows = [contents.row_of(group) for group, _ in known]
    params = [_parameter(name, [contents.rows[row].get(name) for row in rows]) for name in contents.spec.space.root]
    measured = []
    for name in dict.fromkeys([*MAIN, *contents.spec.objectives]):
        values = [contents.measured(group, name) for group, _ in known]
        usable = [value for value, (_, standing) in zip(values, known, strict=True) if standing not in REFUSED]
        counted = [value for value in usable or values if value is not None]
        log = axis_of(name, contents.spec, counted).log
        measured.append(_numbers(name, values, counted, label=partial(show, name), log=log))
    kinds = tuple(standing for _, standing in known)
    return CoordinatesInfo(dimensions=(*params, *measured), rows=tuple(rows), kinds=kinds)


def draw_coordinates(info: CoordinatesInfo) -> Figure:
    """Few traces with many lines each: one trace per line would hold up no sweep of thousands."""
    crowded = info.kinds.count("frontier") > CROWD
    styles = STYLES | ({"frontier": ("@front", 1.0, 0.8, "solid")} if crowded else {})
    letters = [min(len(dimension.title), TITLE_CHARS) * LETTER_PX for dimension in info.dimensions]
    letters += [DIGIT_PX * len(text) for dimension in info.dimensions for _, text in dimension.ticks]
    return Figure(
        name=NAME,
        title="Parallel coordinates",
        words=_words(info),
        data=[_lines(info, kind, *styles[kind]) for kind in STANDINGS if kind in info.kinds],
        layout=_layout(info),
        height=380,
        least_width=round(len(info.dimensions) * (16 + max(letters, default=0.0))),
        upright=_upright(info),
        linked=True,
        most=MOST,
    )


def _parameter(name: str, values: Sequence[float | int | str | None]) -> Dimension:
    if any(isinstance(value, str) for value in values):
        return _named(name, [None if value is None else str(value) for value in values])
    numbers = [None if value is None else float(value) for value in values]
    counted = [value for value in numbers if value is not None]
    return _numbers(name, numbers, counted, label="{:g}".format, between="{:.3g}".format)


def _named(name: str, values: Sequence[str | None]) -> Dimension:
    names = tuple(sorted({value for value in values if value is not None}))
    place = {value: i / max(1, len(names) - 1) for i, value in enumerate(names)}
    heights = tuple(None if value is None else place[value] for value in values)
    ticks = tuple((height, cut(value, NAME_CHARS)) for value, height in place.items())
    return Dimension(name, short(name), heights, ticks, 0.0, float(len(names) - 1), names=names)


def _numbers(
    name: str,
    values: Sequence[float | None],
    counted: Sequence[float],
    *,
    label: Callable[[float], str],
    between: Callable[[float], str] | None = None,
    log: bool = False,
) -> Dimension:
    """Ticks of many values are five from end to end; `between` writes these, as `label` does unless given.

    The axis is as long as the values that are `counted`; others that lie outside are drawn just beyond its end.
    """
    known = sorted(set(counted))
    low, high = (known[0], known[-1]) if known else (0.0, 1.0)

    def height(value: float) -> float:
        if high == low:
            return 0.5 if value == low else -BEYOND if value < low else 1 + BEYOND
        if log and value <= 0:
            return -BEYOND
        at = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return round(min(1 + BEYOND, max(-BEYOND, at)), 5)

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


def _lines(
    info: CoordinatesInfo, kind: Standing, color: str, width: float, opacity: float, dash: str
) -> dict[str, Any]:
    """Returns all lines of a kind as one, with a gap after each."""
    places = [i for i, one in enumerate(info.kinds) if one == kind]
    heights = [[d.heights[i] for d in info.dimensions] for i in places]
    axes = len(info.dimensions)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": STANDINGS[kind],
        "x": [*range(axes), None] * len(places),
        "y": [y for line in heights for y in (*(ABSENT if height is None else height for height in line), None)],
        "customdata": [info.rows[i] for i in places for _ in range(axes + 1)],
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": color, "width": width, "dash": dash},
        "opacity": opacity,
    }


def _layout(info: CoordinatesInfo) -> dict[str, Any]:
    places = list(range(len(info.dimensions)))
    log = any(dimension.log for dimension in info.dimensions)
    return {
        "xaxis": {
            "tickvals": places,
            "ticktext": [_title(dimension, TITLE_CHARS, "<br>") for dimension in info.dimensions],
            "range": [-0.35, len(places) - 0.65],
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "side": "top",
            "fixedrange": True,
        },
        "yaxis": {"range": [-0.12, 1.05], "visible": False, "fixedrange": True},
        "shapes": [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, **AXIS} for x in places],
        "annotations": [
            {"x": x, "y": y, "text": escaped(text), "xanchor": "right", "xshift": -4, **TICK}
            for x, dimension in enumerate(info.dimensions)
            for y, text in _apart(dimension, lambda a, b: TICK_GAP)
        ],
        "legend": {"y": 0, "yanchor": "top"},
        "margin": {"l": 64, "r": 24, "t": 50 if log else 36, "b": 32},
        "dragmode": False,
    }


def _upright(info: CoordinatesInfo) -> dict[str, Any]:
    """Returns the layout for narrow places: the axes lie below one another, each with its name above it."""

    def room(a: str, b: str) -> float:
        return (DIGIT_PX * (len(a) + len(b)) / 2 + 8) / NARROW_PX

    beside, below = {"yanchor": "middle", "xshift": -6}, {"yanchor": "top", "yshift": -3}
    places = list(range(len(info.dimensions)))
    names = [
        {"x": 0, "y": y, "text": _title(dimension, LABEL_CHARS, " "), "xanchor": "left", **HEADING}
        for y, dimension in enumerate(info.dimensions)
    ]
    ticks = [
        {"x": x, "y": y, "text": escaped(text), **TICK, **(beside if x == ABSENT else below)}
        for y, dimension in enumerate(info.dimensions)
        for x, text in _apart(dimension, room)
    ]
    return {
        "xaxis": {"range": [-0.12, 1.05], "visible": False, "fixedrange": True},
        "yaxis": {"range": [len(places) - 0.5, -0.55], "visible": False, "fixedrange": True},
        "shapes": [{"type": "line", "x0": 0, "x1": 1, "y0": y, "y1": y, **AXIS} for y in places],
        "annotations": [*names, *ticks],
        "margin": {"l": 8, "r": 20, "t": 8, "b": 8},
        "height": 16 + ROW_PX * len(places),
        "dragmode": False,
    }


def _title(dimension: Dimension, chars: int, between: str) -> str:
    """Returns the name of an axis, and that it is logarithmic."""
    name = f"<b>{escaped(cut(dimension.title, chars))}</b>"
    return f"{name}{between}(log scale)" if dimension.log else name


def _apart(dimension: Dimension, room: Callable[[str, str], float]) -> list[tuple[float, str]]:
    """Returns the ticks that are written: both ends, and those between that have room beside the others."""
    ticks = sorted(dimension.ticks)
    kept = ticks[:1]
    for height, text in ticks[1:-1]:
        (below, first), (above, last) = kept[-1], ticks[-1]
        if height - below >= room(first, text) and above - height >= room(text, last):
            kept.append((height, text))
    absent = [(ABSENT, "–")] if None in dimension.heights else []
    return [*absent, *kept, *(ticks[-1:] if len(ticks) > 1 else [])]


def _words(info: CoordinatesInfo) -> str:
    if not info.rows:
        return "No trial of the full schedule has a result yet."
    beyond = any(height in (-BEYOND, 1 + BEYOND) for d in info.dimensions for height in d.heights)
    far = " A line that leaves an axis has a value beyond its end." if beyond else ""
    names = ", ".join(dimension.title for dimension in info.dimensions)
    through = names if len(info.dimensions) <= FEW else f"{len(info.dimensions)} columns"
    lines = f"{show_count(len(info.rows), 'point')}, each a line through {through}."
    return f"{lines}{far} Drag along an axis to filter by it; a double click lets go."
