"""The finding that compressed networks are better than the imported one that they came from, beyond chance."""

from collections.abc import Sequence

from tune_app.findings.chance import ERRORS, is_above
from tune_app.findings.findings import Finding
from tune_app.findings.tried import Tried, accuracy_of, usable
from tune_app.ledger.baseline import BaselineInfo
from tune_app.terminal.quantities import show_count, show_share


def above_finding(points: Sequence[Tried], baseline: BaselineInfo) -> Finding | None:
    """Finds points that beat an imported baseline: no short training makes its owner's network so much better."""
    n = baseline.n
    above = [point for point in usable(points) if is_above(accuracy_of(point), n, baseline.accuracy, n)]
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
