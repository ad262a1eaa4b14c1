"""Figures of classes: how often each is right, beside the baseline, and what compression broke and repaired."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_app.drawing.palette import INK
from tune_app.drawing.sheet import BLUE, ORANGE, OUTSIDE, Drawing, clean, count_axis, percent_axis, short, title
from tune_app.mistakes.analysis import Analysis

CLASSES, ROW_IN = 25, 0.32
"""Classes at most, and inches for each: names stay readable, and the figure fits a page."""


@dataclass(frozen=True)
class ClassInfo:
    """Classes from top to bottom with their images, accuracy, that of the baseline, and images that changed."""

    title: str
    names: tuple[str, ...]
    images: np.ndarray
    accuracy: np.ndarray
    baseline: np.ndarray | None
    change: np.ndarray
    broken: np.ndarray
    repaired: np.ndarray


def accuracy_info(analysis: Analysis) -> ClassInfo:
    """Returns the classes that have images, the worst first."""
    return _info(analysis, "accuracy of each class", "with the lowest", analysis.outcome.scores.accuracy)


def change_info(analysis: Analysis) -> ClassInfo | None:
    """Returns the classes in which a prediction became wrong or right, what lost most first; None if there are none."""
    change = analysis.change
    if change is None or not (len(change.newly_wrong) + len(change.newly_right)):
        return None
    moved = (change.broken + change.repaired) > 0
    lost = np.where(moved, change.repaired - change.broken + change.class_accuracy / 2, np.nan)
    return _info(analysis, "images that changed from the baseline", "that lost most", lost)


def accuracy_figure(analysis: Analysis) -> Drawing:
    """Returns bars of accuracy with marks where the baseline was."""
    info = accuracy_info(analysis)

    def draw(axes: Any) -> None:
        places = range(len(info.names))
        axes.barh(places, info.accuracy, color=BLUE, height=0.7, label="this network")
        if info.baseline is not None:
            mark = {"marker": "|", "s": 150, "linewidths": 2.4, "zorder": 3}
            axes.scatter(info.baseline, places, color=INK, label="baseline", **mark)
        axes.axvline(analysis.outcome.accuracy, color=INK, linestyle=":", linewidth=1.2, label="all images")
        for place, (value, images) in enumerate(zip(info.accuracy, info.images, strict=True)):
            axes.annotate(f"{100 * value:.1f} % of {images}", (1.0, place), (8, 0), **_BESIDE)
        axes.set_xlim(0, 1)
        percent_axis(axes.xaxis)
        axes.set_xlabel("share of the class's images that is right")

    return _drawing(info, draw)


def change_figure(analysis: Analysis) -> Drawing | None:
    """Returns bars of newly wrong images to the left and newly right ones to the right; None if there are none."""
    info = change_info(analysis)
    if info is None:
        return None

    def draw(axes: Any) -> None:
        _bars(axes, info.broken, -1, color=ORANGE, label="newly wrong")
        _bars(axes, info.repaired, 1, color=BLUE, label="newly right")
        axes.axvline(0, color=INK, linewidth=1)
        room = 0.08 * max(1, int(info.broken.max()) + int(info.repaired.max()))
        axes.set_xlim(-int(info.broken.max()) - room, int(info.repaired.max()) + room)
        for place, (change, images) in enumerate(zip(info.change, info.images, strict=True)):
            axes.annotate(f"{100 * change:+.1f} pp of {images}", (1.0, place), (8, 0), **_BESIDE)
        count_axis(axes.xaxis)
        axes.set_xlabel("images")

    return _drawing(info, draw)


_BESIDE = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "left", "fontsize": 9.5, **OUTSIDE}


def _info(analysis: Analysis, what: str, which: str, order_by: np.ndarray) -> ClassInfo:
    """Returns the classes for which `order_by` is known, the smallest first; `which` says whose rank is above the
    limit."""
    known = np.flatnonzero(~np.isnan(order_by))
    order = known[np.argsort(order_by[known], kind="stable")][:CLASSES]
    scores, change, none = analysis.outcome.scores, analysis.change, np.zeros(len(analysis.names), np.int64)
    part = f"\nthe {len(order)} of {len(known)} classes {which}" if len(order) < len(known) else ""
    return ClassInfo(
        title=f"{analysis.title}: {what}{part}",
        names=tuple(short(analysis.names[i]) for i in order),
        images=scores.images[order],
        accuracy=scores.accuracy[order],
        baseline=None if analysis.baseline is None else analysis.baseline.scores.accuracy[order],
        change=(none if change is None else change.class_accuracy)[order],
        broken=(none if change is None else change.broken)[order],
        repaired=(none if change is None else change.repaired)[order],
    )


def _drawing(info: ClassInfo, draw: Callable[[Any], None]) -> Drawing:
    """Returns a figure with a row for each class, on whose axes `draw` draws, and a legend below."""

    def whole(figure: Any) -> None:
        title(figure, info.title)
        axes = figure.add_subplot()
        clean(axes, grid="x")
        axes.set_yticks(range(len(info.names)), info.names)
        axes.set_ylim(len(info.names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        draw(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False, fontsize=10)

    return Drawing(whole, width_in=9, height_in=1.7 + ROW_IN * len(info.names))


def _bars(axes: Any, counts: np.ndarray, sign: int, *, color: str, label: str) -> None:
    """Draws bars to the left or to the right, with their numbers at the end."""
    axes.barh(range(len(counts)), sign * counts, color=color, height=0.7, label=label)
    beside = {"textcoords": "offset points", "va": "center", "ha": "left" if sign > 0 else "right", "fontsize": 9.5}
    for place in np.flatnonzero(counts):
        axes.annotate(str(counts[place]), (sign * counts[place], place), (4 * sign, 0), **beside)
