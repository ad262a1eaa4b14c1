"""The tables of an analysis as rows of text, for the terminal, the report and the page; the first row is the head."""

import math
from collections.abc import Sequence

from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.confusion import confusions, errors_by_group, mutual_confusions
from tune_app.mistakes.numbers import per_class
from tune_app.terminal.quantities import show_points, show_share
from tune_app.terminal.table import ABSENT

NAMES = {"class", "taken for", "predicted", "baseline predicted", "group", "other class"}
"""Heads of columns that hold names; the other columns hold numbers."""
Row = Sequence[str]


def class_rows(analysis: Analysis) -> list[Row]:
    """Returns a row per class: what lost most first or, without a baseline, the worst first."""
    rows, changes = per_class(analysis), analysis.change is not None
    first = "accuracy_change" if changes else "accuracy"
    rows.sort(key=lambda row: math.inf if row[first] is None else row[first])
    columns = [column for column in _CLASS_COLUMNS if changes or not column[2]]
    cells = [tuple(form(row[name]) for name, _, _, form in columns) for row in rows]
    return [tuple(head for _, head, _, _ in columns), *cells]


def confusion_rows(analysis: Analysis) -> list[Row]:
    """Returns what is mistaken for what, the most frequent first."""
    names, baseline = analysis.names, analysis.baseline
    rows = []
    for found in confusions(analysis.outcome.matrix):
        own = (names[found.label], names[found.predicted], str(found.count), percent(found.share))
        rows.append(own if baseline is None else (*own, str(baseline.matrix[found.label, found.predicted])))
    head = ("class", "taken for", "images", "of its class")
    return [head if baseline is None else (*head, "baseline"), *rows]


def mutual_rows(analysis: Analysis) -> list[Row]:
    """Returns pairs of classes that are mistaken for each other, by the errors of both directions together."""
    names, baseline = analysis.names, analysis.baseline
    rows = []
    for found in mutual_confusions(analysis.outcome.matrix):
        i, j = found.first, found.second
        own = (names[i], names[j], str(found.count), str(found.forth), str(found.back), percent(found.share))
        rows.append(own if baseline is None else (*own, str(baseline.matrix[i, j] + baseline.matrix[j, i])))
    head = ("class", "other class", "both ways", "→", "←", "of both classes")
    return [head if baseline is None else (*head, "baseline"), *rows]


def group_rows(analysis: Analysis) -> list[Row]:
    """Returns errors whose true and predicted class are both in a group, and those across; nothing without groups."""
    errors = errors_by_group(analysis.outcome.matrix, analysis.groups) if analysis.groups else {}
    total = sum(errors.values())
    ranked = sorted(errors.items(), key=lambda item: -item[1])
    return [
        ("group", "errors", "share"),
        *((name, str(count), percent(count / total)) for name, count in ranked if count),
    ]


def image_rows(analysis: Analysis, places: Sequence[int]) -> list[Row]:
    """Returns images by their place in the split, with what the networks say of them."""
    names, outcome, baseline = analysis.names, analysis.outcome, analysis.baseline
    rows = []
    for i in places:
        predicted = (names[outcome.predicted[i]], f"{outcome.confidence[i]:.3f}")
        before = () if baseline is None else (names[baseline.predicted[i]], f"{baseline.confidence[i]:.3f}")
        rows.append((str(i), names[analysis.labels[i]], *predicted, *before))
    head = ("image", "class", "predicted", "confidence")
    return [head if baseline is None else (*head, "baseline predicted", "confidence"), *rows]


def bin_rows(analysis: Analysis) -> list[Row]:
    """Returns the bins of equal width that hold images."""
    bins = analysis.outcome.calibration.width
    rows = [
        (f"{bins.low[i]:.3f}–{bins.high[i]:.3f}", str(n), f"{bins.confidence[i]:.3f}", f"{bins.accuracy[i]:.3f}")
        for i, n in enumerate(bins.images.tolist())
        if n
    ]
    return [("bin", "images", "confidence", "accuracy"), *rows]


def percent(share: float | None) -> str:
    """Returns a share as `97.8 %`, or a dash where nothing is known."""
    return ABSENT if share is None or math.isnan(share) else show_share(share, digits=1)


def _points(difference: float | None) -> str:
    return ABSENT if difference is None else show_points(difference)


_CLASS_COLUMNS = (  # key in `per_class`, head, whether it needs a baseline, form
    ("class", "class", False, str),
    ("images", "images", False, str),
    ("right", "right", False, str),
    ("accuracy", "recall", False, percent),
    ("baseline_right", "baseline right", True, str),
    ("baseline_accuracy", "baseline recall", True, percent),
    ("accuracy_change", "change", True, _points),
    ("newly_wrong", "newly wrong", True, str),
    ("newly_right", "newly right", True, str),
    ("precision", "precision", False, percent),
    ("f1", "F1", False, percent),
)
