"""The calibration figure: how often a network is right at each confidence, and how sure it is when right or wrong."""

from typing import Any

import numpy as np

from tune_app.drawing.palette import INK
from tune_app.drawing.sheet import BLUE, ORANGE, OUTSIDE, PAPER, Drawing, clean, percent_axis, title
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration import BINS


def calibration_figure(analysis: Analysis) -> Drawing:
    """Returns the reliability diagram (Guo et al. 2017, figure 1) beside the confidence of right and wrong
    predictions."""

    def draw(figure: Any) -> None:
        title(figure, f"{analysis.title}: confidence on {len(analysis.labels):,} images")
        reliability, histogram = figure.subplots(1, 2)
        _draw_reliability(analysis, reliability)
        _draw_confidence(analysis, histogram)

    return Drawing(draw, width_in=11, height_in=5.4)


def confidence_shares(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Returns the share of the images in each bin of confidence, (B,); all are 0 without an image."""
    counts = np.histogram(confidence, bins=bins, range=(0, 1))[0]
    return counts / max(len(confidence), 1)


def _draw_reliability(analysis: Analysis, axes: Any) -> None:
    bins = analysis.outcome.calibration.width
    some = bins.images > 0
    middle, width = (bins.low + bins.high) / 2, 0.9 * (bins.high - bins.low)
    axes.bar(middle[some], bins.accuracy[some], width[some], color=BLUE, label="share right")
    gap = bins.confidence - bins.accuracy
    hatched = {"facecolor": "none", "edgecolor": ORANGE, "hatch": "///", "linewidth": 0.8}
    label = "gap to the mean confidence"
    axes.bar(middle[some], gap[some], width[some], bottom=bins.accuracy[some], label=label, **hatched)
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, label="calibrated")
    if analysis.baseline is not None:
        theirs = analysis.baseline.calibration.width
        known = theirs.images > 0
        rings = {"marker": "o", "markerfacecolor": PAPER, "markersize": 5, "linewidth": 0.8, "clip_on": False}
        axes.plot(theirs.confidence[known], theirs.accuracy[known], color=INK, label="baseline", zorder=3, **rings)
    above = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "fontsize": 7.5}
    for place, images in zip(middle[some], bins.images[some], strict=True):
        axes.annotate(_brief(int(images)), (place, 1.0), (0, 3), **above, **OUTSIDE)
    clean(axes, grid="y")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="confidence; above, the images of each bin", ylabel="share right")
    before = "" if analysis.baseline is None else f" (baseline {analysis.baseline.calibration.width.error:.4f})"
    axes.set_title(f"ECE {bins.error:.4f}{before}", pad=20)
    axes.legend(**_BELOW, ncols=2)


def _draw_confidence(analysis: Analysis, axes: Any) -> None:
    outcome = analysis.outcome
    edges = np.linspace(0, 1, BINS + 1)
    wide = 0.45 / BINS
    parts = (("right", outcome.right, BLUE, 0.0, ""), ("wrong", ~outcome.right, ORANGE, wide, "///"))
    for name, mask, color, shift, hatch in parts:
        label = f"{name}: {int(mask.sum()):,} images"
        if mask.any():
            label += f", mean {outcome.confidence[mask].mean():.3f}"
        heights = confidence_shares(outcome.confidence[mask])
        axes.bar(edges[:-1] + 0.05 / BINS + shift, heights, wide, align="edge", color=color, hatch=hatch, label=label)
    clean(axes, grid="y")
    percent_axis(axes.yaxis)
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="share of the right, and of the wrong")
    axes.set_title("confidence when right and when wrong", pad=20)
    axes.legend(**_BELOW)


def _brief(count: int) -> str:
    return str(count) if count < 1_000 else f"{count / 1_000:.{0 if count >= 10_000 else 1}f}k"


_BELOW = {"loc": "upper left", "bbox_to_anchor": (0, -0.14), "frameon": False, "fontsize": 9.5}
