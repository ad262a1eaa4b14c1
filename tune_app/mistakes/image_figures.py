"""Figures of images: the top confusions in rows, the most confident errors, what compression broke and repaired."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tune_app.drawing.sheet import EDGE, Drawing, picture, short, title
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.confusion import Confusion, confusions
from tune_app.mistakes.outcome import Outcome
from tune_app.terminal.quantities import show_count

ROWS, IN_ROW = 8, 8
COLUMNS, IMAGES = 6, 24
TILE_IN = 1.5
"""Confusions and images of each, columns and images of a grid, and inches of an image: all fit a page's width."""
Caption = Callable[[Analysis, int], str]


def top_confusions_figure(analysis: Analysis) -> Drawing | None:
    """Returns a row for each of the most frequent confusions with its most confident images; None without errors."""
    found = confusions(analysis.outcome.matrix)[:ROWS]
    if not found:
        return None

    def draw(figure: Any) -> None:
        title(figure, f"{analysis.title}: top confusions, with confidence")
        widths = {"width_ratios": [2.3] + [1] * IN_ROW}
        grid = figure.subplots(len(found), IN_ROW + 1, squeeze=False, gridspec_kw=widths)
        for row, confusion in zip(grid, found, strict=True):
            _draw_row(row, analysis, confusion)

    return Drawing(draw, width_in=11, height_in=0.6 + 1.12 * len(found))


def confident_errors_figure(analysis: Analysis) -> Drawing | None:
    """Returns a grid of the most confident errors; None without errors."""
    what = "most confident errors, class → prediction with confidence"
    return _gallery(analysis, what, analysis.outcome.errors, _class_and_now)


def changed_figure(analysis: Analysis, *, now: Literal["wrong", "right"]) -> Drawing | None:
    """Returns a grid of images that are newly wrong, or newly right, against the baseline; None if there are none."""
    if analysis.change is None:
        return None
    places = analysis.change.newly_wrong if now == "wrong" else analysis.change.newly_right
    return _gallery(analysis, f"newly {now}, baseline → now with confidence", places, _before_and_now)


def _gallery(analysis: Analysis, what: str, places: np.ndarray, caption: Caption) -> Drawing | None:
    shown = places[:IMAGES].tolist()
    if not shown:
        return None
    rows = -(-len(shown) // COLUMNS)
    lines = caption(analysis, shown[0]).count("\n") + 1

    def draw(figure: Any) -> None:
        count = f"{len(shown)} of {len(places):,}" if len(shown) < len(places) else f"{len(shown)}"
        title(figure, f"{analysis.title}: {what} ({count})")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, place in zip(grid, shown, strict=False):
            _tile(axes, analysis.images[place])
            axes.set_xlabel(caption(analysis, place), fontsize=9.5, linespacing=1.25, loc="left")
        for axes in grid[len(shown) :]:
            axes.set_axis_off()

    return Drawing(draw, width_in=0.3 + COLUMNS * (TILE_IN + 0.25), height_in=0.6 + rows * (TILE_IN + 0.22 * lines))


def _draw_row(row: Sequence[Any], analysis: Analysis, confusion: Confusion) -> None:
    head, *tiles = row
    names, outcome = analysis.names, analysis.outcome
    text = f"{short(names[confusion.label])} → {short(names[confusion.predicted])}"
    share = f"{show_count(confusion.count, 'image')}, {100 * confusion.share:.1f} % of the class"
    head.set_axis_off()
    head.text(0, 0.62, text, transform=head.transAxes, fontsize=11.5, weight="bold", va="center")
    head.text(0, 0.32, share, transform=head.transAxes, fontsize=9.5, va="center")
    errors = outcome.errors
    mine = (analysis.labels[errors] == confusion.label) & (outcome.predicted[errors] == confusion.predicted)
    places = errors[mine][: len(tiles)].tolist()
    for axes, place in zip(tiles, places, strict=False):
        _tile(axes, analysis.images[place])
        axes.set_xlabel(f"{outcome.confidence[place]:.2f}", fontsize=9, labelpad=1)
    for axes in tiles[len(places) :]:
        axes.set_axis_off()


def _tile(axes: Any, pixels: np.ndarray) -> None:
    axes.imshow(picture(pixels), interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(EDGE)


def _class_and_now(analysis: Analysis, place: int) -> str:
    return f"{short(analysis.names[analysis.labels[place]])}\n→ {_answer(analysis, analysis.outcome, place)}"


def _before_and_now(analysis: Analysis, place: int) -> str:
    assert analysis.baseline is not None, "a change has a baseline"
    return f"{_answer(analysis, analysis.baseline, place)}\n→ {_answer(analysis, analysis.outcome, place)}"


def _answer(analysis: Analysis, outcome: Outcome, place: int) -> str:
    return f"{short(analysis.names[outcome.predicted[place]])} ({outcome.confidence[place]:.2f})"
