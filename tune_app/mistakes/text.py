"""An analysis in words: a summary for the terminal, and the whole report as a text file."""

import math
from collections.abc import Sequence

from trainables.train.class_scores import mean_score
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration import CONFIDENT
from tune_app.mistakes.outcome import Outcome
from tune_app.mistakes.rows import (
    NAMES,
    Row,
    bin_rows,
    class_rows,
    confusion_rows,
    group_rows,
    image_rows,
    mutual_rows,
    percent,
)
from tune_app.terminal.quantities import show_count, show_points, show_share

SHORT, LONG = 10, 20
"""Rows of a table in the summary, which fits a terminal, and in the report."""


def summary(analysis: Analysis) -> list[str]:
    """Returns the lines that say most: accuracy, calibration, change, the worst classes, the top confusions."""
    title = "worst classes" if analysis.change is None else "classes that lost most"
    return [
        *headline(analysis),
        "",
        *_table(title, class_rows(analysis), limit=SHORT),
        *_table("top confusions", confusion_rows(analysis), limit=SHORT),
        *_table("mutual confusions: both directions together", mutual_rows(analysis), limit=SHORT),
    ]


def report(analysis: Analysis) -> str:
    """Returns the whole report: every class, confusions, groups, confident errors, images that changed, calibration."""
    change, outcome = analysis.change, analysis.outcome
    where = f"image: its place in the {analysis.about.split_name} split"
    lines = [
        *headline(analysis),
        "",
        *_table("classes", class_rows(analysis)),
        *_table("top confusions", confusion_rows(analysis), limit=LONG),
        *_table("mutual confusions: both directions together", mutual_rows(analysis), limit=LONG),
        *_table("errors by group: true and predicted class both in it", group_rows(analysis)),
        *_table(f"most confident errors; {where}", image_rows(analysis, outcome.errors.tolist()), limit=LONG),
    ]
    if change is not None:
        lines += _table(f"newly wrong; {where}", image_rows(analysis, change.newly_wrong.tolist()), limit=LONG)
        lines += _table(f"newly right; {where}", image_rows(analysis, change.newly_right.tolist()), limit=LONG)
    bins = outcome.calibration
    title = f"calibration, bins of equal width (error with bins of equal mass: {bins.mass.error:.4f})"
    return "\n".join([*lines, *_table(title, bin_rows(analysis))]).rstrip() + "\n"


def headline(analysis: Analysis) -> list[str]:
    """Returns a few sentences: how often the network is right, how sure it is, and what compression changed."""
    about, outcome, baseline, change = analysis.about, analysis.outcome, analysis.baseline, analysis.change
    whose = f" of {about.experiment}" if about.experiment else ""
    size = "" if about.size_bytes is None else f", {about.size_bytes:,} bytes"
    scores = {
        "recall (balanced accuracy)": outcome.scores.accuracy,
        "precision": outcome.scores.precision,
        "F1": outcome.scores.f1,
    }
    lines = [
        f"{about.label}{whose}{size}: {show_share(outcome.accuracy)} right on {len(outcome.right):,} "
        f"{about.split_name} images of {about.data}, {show_count(len(outcome.errors), 'error')}",
        f"confidence: {_confidence(outcome)}",
        "mean over classes: " + ", ".join(f"{name} {percent(mean_score(score))}" for name, score in scores.items()),
    ]
    if baseline is None or change is None:
        return lines
    stayed = f"{show_share(change.agreement)} of the predictions stayed"
    p_value = "p < 0.001" if change.p_value < 0.001 else f"p = {change.p_value:.2g}"
    return [
        *lines,
        f"baseline: {show_share(baseline.accuracy)} right, {show_count(len(baseline.errors), 'error')}; "
        f"confidence: {_confidence(baseline)}",
        f"change: {show_points(change.accuracy)}; {show_count(len(change.newly_wrong), 'image')} newly wrong, "
        f"{len(change.newly_right):,} newly right, {stayed} (McNemar's exact test: {p_value})",
    ]


def _confidence(outcome: Outcome) -> str:
    calibration = outcome.calibration
    means = {"right": calibration.confidence_right, "wrong": calibration.confidence_wrong}
    known = ", ".join(f"{value:.3f} when {name}" for name, value in means.items() if not math.isnan(value))
    sure = f"{show_count(calibration.confident_errors, 'error')} above {CONFIDENT}"
    return f"{known} on average, {sure}; calibration error (ECE) {calibration.width.error:.4f}"


def _table(title: str, rows: Sequence[Row], *, limit: int | None = None) -> list[str]:
    """Returns columns as wide as their cells: names begin together, numbers end together; no lines without a row."""
    found = len(rows) - 1
    if not found:
        return []
    shown = rows if limit is None else rows[: limit + 1]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    sides = [str.ljust if head in NAMES else str.rjust for head in rows[0]]
    lines = ["  ".join(side(c, w) for side, c, w in zip(sides, row, widths, strict=True)) for row in shown]
    part = f" ({limit} of {found:,})" if limit is not None and limit < found else ""
    return [f"{title}{part}", *(f"  {line.rstrip()}" for line in lines), ""]
