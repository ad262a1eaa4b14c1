"""The finding that compressed networks are better than the imported one that they came from, beyond chance."""

import math
from collections.abc import Sequence

from tune_app.findings.findings import Finding
from tune_app.findings.tried import Tried, accuracy_of, usable
from tune_app.ledger.baseline import BaselineInfo
from tune_app.terminal.quantities import show_count, show_share

ERRORS = 3
"""Standard errors of the difference of two accuracies; chance is as far off in one point of a thousand."""


def above_finding(points: Sequence[Tried], baseline: BaselineInfo) -> Finding | None:
    """Finds points that beat an imported baseline: short training makes no network better than its owner's by so much.

    The standard error is that of two fractions of the same number of images, taken as independent.
    """
    above = [point for point in usable(points) if _errors_above(accuracy_of(point), baseline) > ERRORS]
    if not above:
        return None
    best = max(above, key=accuracy_of)
    text = (
        f"{show_count(len(above), 'point')} of {len(points):,} beat the imported baseline by more than {ERRORS} "
        f"standard errors (best: {best.label}, {show_share(accuracy_of(best))}, the baseline "
        f"{show_share(baseline.accuracy)}): the import may be wrong; compare the images' mean and deviation with those "
        "it was trained with, strides and padding with its own code, and name the averaged weights if the file holds "
        "both"
    )
    facts = {"label": best.label, "accuracy_change": accuracy_of(best) - baseline.accuracy, "points": len(above)}
    return Finding("above_baseline", text, facts)


def _errors_above(accuracy: float, baseline: BaselineInfo) -> float:
    variance = sum(share * (1 - share) for share in (accuracy, baseline.accuracy)) / baseline.n
    gain = accuracy - baseline.accuracy
    return gain / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gain) if gain else 0.0
