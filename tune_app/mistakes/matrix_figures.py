"""Figures of the confusion matrix: counts, shares of the true class, and one misclassified image in each cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_app.drawing.palette import GRAY
from tune_app.drawing.sheet import BLUE, EDGE, ORANGE, Drawing, picture, short, tint, title
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.confusion import hardest, shares

CLASSES, CLASSES_WITH_IMAGES = 20, 12
"""Classes at most, without and with an image in each cell: with more, cells are too small to read."""
OTHERS = "others"
CELL_IN, LEAST_WIDTH_IN = 0.5, 6.5
"""Inches of a cell, which holds three digits, and of the figure at least, whose title stays on one line."""
PALEST, STRONGEST = 0.12, 0.75
"""Strength of a color on the paper from the palest to the strongest cell: text can be read on all, light or dark."""


@dataclass(frozen=True)
class MatrixInfo:
    """Rows of `classes`, and as columns these and, if some are left out, all others together."""

    title: str
    classes: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: np.ndarray
    shares: np.ndarray


def matrix_info(analysis: Analysis, *, what: str = "confusion matrix, images", limit: int = CLASSES) -> MatrixInfo:
    """Returns the matrix, or the rows of the classes with the most errors where it is large."""
    matrix = analysis.outcome.matrix
    chosen = hardest(matrix, limit)
    rest = np.setdiff1d(np.arange(len(matrix)), chosen)
    parts = [
        np.hstack([m[np.ix_(chosen, chosen)], m[np.ix_(chosen, rest)].sum(1, keepdims=True)[:, : len(rest)]])
        for m in (matrix, shares(matrix))
    ]
    names = tuple(short(analysis.names[i]) for i in chosen)
    which = f"\nthe {len(chosen)} of {len(matrix)} classes with most errors" if rest.size else ""
    return MatrixInfo(
        title=f"{analysis.title}\n{what}{which}",
        classes=chosen,
        rows=names,
        columns=names + ((OTHERS,) if rest.size else ()),
        counts=parts[0],
        shares=parts[1],
    )


def counts_figure(analysis: Analysis) -> Drawing:
    """Returns a figure with the number of images in each cell."""
    info = matrix_info(analysis)
    return _figure(info, info.counts, "{:.0f}".format)


def shares_figure(analysis: Analysis) -> Drawing:
    """Returns a figure with the percent of the images of the true class in each cell."""
    info = matrix_info(analysis, what="confusion matrix, % of the true class")
    return _figure(info, 100 * info.shares, lambda percent: f"{percent:.{0 if percent >= 9.95 else 1}f}")


def image_matrix_figure(analysis: Analysis) -> Drawing:
    """Returns a figure with the most confident error in each cell; the diagonal counts what is right."""
    what = "confusion matrix, images and the most confident error of each cell"
    info = matrix_info(analysis, what=what, limit=CLASSES_WITH_IMAGES)
    size = 2.0 + 0.85 * len(info.columns)

    def draw(figure: Any) -> None:
        axes = _axes(figure, info)
        axes.set_xlim(-0.5, len(info.columns) - 0.5)
        axes.set_ylim(len(info.rows) - 0.5, -0.5)
        axes.set_aspect("equal")
        _separate(axes, info)
        for row, column in np.ndindex(*info.counts.shape):
            _image_cell(axes, analysis, info, row, column)

    return Drawing(draw, width_in=max(LEAST_WIDTH_IN, size + 0.4), height_in=size + 0.2)


def _figure(info: MatrixInfo, values: np.ndarray, form: Callable[[float], str]) -> Drawing:
    rows, columns = values.shape
    cell = CELL_IN if rows > 12 else CELL_IN * min(2.0, 12 / max(rows, 4))
    colors = cell_colors(values, info.shares)

    def draw(figure: Any) -> None:
        axes = _axes(figure, info)
        axes.imshow(colors, aspect="equal", interpolation="none")
        _separate(axes, info)
        for row, column in np.ndindex(rows, columns):
            text = form(float(values[row, column])) if values[row, column] else ""
            axes.text(column, row, text, ha="center", va="center", fontsize=10)

    return Drawing(draw, width_in=max(LEAST_WIDTH_IN, 2.4 + cell * columns), height_in=2.1 + cell * rows)


def cell_colors(values: np.ndarray, row_shares: np.ndarray) -> np.ndarray:
    """Returns colors (R, K, 4): the diagonal blue by its share of the row, errors orange up to the largest, the rest
    bare.

    One scale for both would leave errors invisible: the diagonal is often a hundred times larger. For the same
    reason a column of all other classes has no color.
    """
    rows, columns = values.shape
    diagonal = np.eye(rows, columns) > 0
    colored = ~diagonal & (values > 0) & (np.arange(columns) < rows)
    largest = float(values[colored].max()) if colored.any() else 1.0
    strength = np.where(colored, PALEST + (STRONGEST - PALEST) * values / largest, 0)
    return np.where(diagonal[..., None], tint(BLUE, STRONGEST * row_shares), tint(ORANGE, strength))


def _axes(figure: Any, info: MatrixInfo) -> Any:
    title(figure, info.title)
    axes = figure.add_subplot()
    axes.set_xticks(range(len(info.columns)), info.columns)
    axes.set_yticks(range(len(info.rows)), info.rows)
    if max(map(len, info.columns)) > 3:
        axes.tick_params(axis="x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return axes


def _separate(axes: Any, info: MatrixInfo) -> None:
    rows, columns = len(info.rows), len(info.columns)
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=EDGE, linewidth=0.8)
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=EDGE, linewidth=0.8)


def _image_cell(axes: Any, analysis: Analysis, info: MatrixInfo, row: int, column: int) -> None:
    count = int(info.counts[row, column])
    if row == column:
        background = tint(BLUE, STRONGEST * info.shares[row, column])
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=background, linewidth=0)
        axes.text(column, row, str(count), ha="center", va="center", fontsize=13)
        return
    if not count:
        axes.text(column, row, "0", ha="center", va="center", color=GRAY, fontsize=11)
        return
    image = picture(analysis.images[_most_confident(analysis, info, row, column)])
    extent = (column - 0.36, column + 0.36, row + 0.26, row - 0.46)
    axes.imshow(image, extent=extent, interpolation="none", aspect="equal")
    axes.text(column, row + 0.38, str(count), ha="center", va="center", fontsize=9.5, weight="bold")


def _most_confident(analysis: Analysis, info: MatrixInfo, row: int, column: int) -> int:
    errors, predicted = analysis.outcome.errors, analysis.outcome.predicted
    mine = errors[analysis.labels[errors] == info.classes[row]]
    others = ~np.isin(predicted[mine], info.classes)
    return int(mine[predicted[mine] == info.classes[column] if column < len(info.classes) else others][0])
