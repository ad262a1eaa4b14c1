"""The finding that an imported network was trained on the images that validate, so that its accuracy says little."""

import math

from tune_app.findings.findings import Finding
from tune_app.ledger.baseline import BaselineInfo
from tune_app.terminal.quantities import show_share

ERRORS = 3
"""Standard errors of the difference of two accuracies; chance is as far off in one network of a thousand."""


def memorized_finding(baseline: BaselineInfo) -> Finding | None:
    """Finds that a baseline is better on validation images from its training images than on images from elsewhere.

    The standard error is that of two fractions, taken as independent.
    """
    inside, outside, n = baseline.accuracy, baseline.accuracy_outside, baseline.n_outside
    if outside is None or not n:
        return None
    variance = inside * (1 - inside) / baseline.n + outside * (1 - outside) / n
    if inside - outside <= ERRORS * math.sqrt(variance):
        return None
    text = (
        f"the imported baseline has {show_share(inside)} on the validation images, which are drawn from training "
        f"images, and {show_share(outside)} on {n:,} test images: it seems to have been trained on what validates "
        "here, and points are chosen by what it remembers; take data.validation: {from: test, fraction: 0.5}"
    )
    return Finding("memorized", text, {"accuracy": inside, "accuracy_outside": outside, "images": n})
