"""Figures of images: the top confusions in rows, the most confident errors, what compression broke and repaired."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tune_app.drawing.sheet import EDGE, LABEL_CHARS, Drawing, picture, short, title
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.confusion import Confusion, confusions

ROWS, IN_ROW = 8, 8
COLUMNS, IMAGES = 6, 24
TILE_IN = 1.5
"""Confusions and images of each, columns and images of a grid, and inches of an image: all fit a page's width."""
Caption = Callable[[int], str]


def top_confusions_figure(analysis: Analysis) -> Drawing | None:
    """Returns a row for each of the most frequent confusions with its most confident images; None without errors."""
    found = confusions(analysis.outcome.matrix)[:ROWS]
    if not found:
        return None

    def draw(figure: Any) -> None:
        title(figure, f"{short(analysis.about.label, LABEL_CHARS)}: top confusions, with confidence")
        grid = figure.subplots(
            len(found), IN_ROW + 1, squeeze=False, gridspec_kw={"width_ratios": [2.3] + [1] * IN_ROW}
        )
        for row, confusion in zip(grid, found, strict=True):
            _draw_row(row, analysis, confusion)

    return Drawing(draw, width_in=11, height_in=0.6 + 1.12 * len(found))


def confident_errors_figure(analysis: Analysis) -> Drawing | None:
    """Returns a grid of the most confident errors; None without errors."""
    return _gallery(
        analysis, "most confident errors, class → prediction with confidence", analysis.outcome.errors, _now(analysis)
    )


def newly_wrong_figure(analysis: Analysis) -> Drawing | None:
    """Returns a grid of images that the baseline had right and the network has not; None if there are none."""
    if analysis.change is None:
        return None
    return _gallery(
        analysis, "newly wrong, baseline → now with confidence", analysis.change.newly_wrong, _now_and_before(analysis)
    )


def newly_right_figure(analysis: Analysis) -> Drawing | None:
    """Returns a grid of images that the baseline had wrong and the network has right; None if there are none."""
    if analysis.change is None:
        return None
    return _gallery(
        analysis, "newly right, baseline → now with confidence", analysis.change.newly_right, _now_and_before(analysis)
    )


def _gallery(analysis: Analysis, what: str, places: np.ndarray, caption: Caption) -> Drawing | None:
    shown = places[:IMAGES].tolist()
    if not shown:
        return None
    rows = -(-len(shown) // COLUMNS)
    lines = caption(shown[0]).count("\n") + 1

    def draw(figure: Any) -> None:
        count = f"{len(shown)} of {len(places):,}" if len(shown) < len(places) else f"{len(shown)}"
        title(figure, f"{short(analysis.about.label, LABEL_CHARS)}: {what} ({count})")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, place in zip(grid, shown, strict=False):
            _tile(axes, analysis.images[place])
            axes.set_xlabel(caption(place), fontsize=9.5, linespacing=1.25, loc="left")
        for axes in grid[len(shown) :]:
            axes.set_axis_off()

    return Drawing(draw, width_in=0.3 + COLUMNS * (TILE_IN + 0.25), height_in=0.6 + rows * (TILE_IN + 0.22 * lines))


def _draw_row(row: Sequence[Any], analysis: Analysis, confusion: Confusion) -> None:
    head, *tiles = row
    names, outcome = analysis.names, analysis.outcome
    text = f"{short(names[confusion.label])} → {short(names[confusion.predicted])}"
    noun = "image" if confusion.count == 1 else "images"
    share = f"{confusion.count:,} {noun}, {100 * confusion.share:.1f} % of the class"
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


def _now(analysis: Analysis) -> Caption:
    names, outcome = analysis.names, analysis.outcome

    def caption(place: int) -> str:
        given = short(names[outcome.predicted[place]])
        return f"{short(names[analysis.labels[place]])}\n→ {given} ({outcome.confidence[place]:.2f})"

    return caption


def _now_and_before(analysis: Analysis) -> Caption:
    names, outcome, before = analysis.names, analysis.outcome, analysis.baseline
    assert before is not None, "a change has a baseline"

    def caption(place: int) -> str:
        now, was = short(names[outcome.predicted[place]]), short(names[before.predicted[place]])
        return f"{was} ({before.confidence[place]:.2f})\n→ {now} ({outcome.confidence[place]:.2f})"

    return caption
