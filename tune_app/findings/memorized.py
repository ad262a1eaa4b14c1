"""The finding that an imported network was trained on the images that validate, so that its accuracy says little."""

from tune_app.findings.chance import is_above
from tune_app.findings.findings import Finding
from tune_app.ledger.baseline import BaselineInfo
from tune_app.terminal.quantities import show_share


def memorized_finding(baseline: BaselineInfo) -> Finding | None:
    """Finds that a baseline is better on validation images from its training images than on images from elsewhere."""
    inside, outside, n = baseline.accuracy, baseline.accuracy_outside, baseline.n_outside
    if outside is None or not n or not is_above(inside, baseline.n, outside, n):
        return None
    text = (
        f"the imported baseline has {show_share(inside)} on the validation images, which are drawn from training "
        f"images, and {show_share(outside)} on {n:,} test images: it seems to have been trained on what validates "
        "here, and points are chosen by what it remembers; take data.validation: {from: test, fraction: 0.5}"
    )
    return Finding("memorized", text, {"accuracy": inside, "accuracy_outside": outside, "images": n})
