"""The finding that classes have very different counts of images, so that the accuracy says little of the small ones."""

from trainables.config import UNBALANCED
from tune_app.findings.findings import Finding
from tune_app.ledger.baseline import BaselineInfo


def unbalanced_finding(baseline: BaselineInfo) -> Finding | None:
    """Finds that the largest class has UNBALANCED times the training images of the smallest one, or more."""
    largest, smallest = baseline.largest_class, baseline.smallest_class
    if largest is None or smallest is None or largest.images < UNBALANCED * smallest.images:
        return None
    text = (
        f"classes have very different counts of training images, from {smallest.images:,} ({smallest.name}) to "
        f"{largest.images:,} ({largest.name}): the accuracy counts each image alike, and hides errors in small "
        "classes; the columns balanced_accuracy and macro_f1 count each class alike"
    )
    return Finding("unbalanced", text, {"smallest": smallest.model_dump(), "largest": largest.model_dump()})
