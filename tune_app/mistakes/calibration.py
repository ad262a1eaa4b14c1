"""Calibration: whether a network is right as often as it says, by bins of confidence."""

from dataclasses import dataclass

import numpy as np

BINS = 15
"""Bins of confidence, as in Guo et al. 2017, so that calibration errors compare with published ones."""
CONFIDENT = 0.9
"""An error above this confidence is called a confident one: the network left one in ten for all other classes."""


@dataclass(frozen=True)
class Reliability:
    """Bins (low, high] of confidence, (B,) each: images, and their mean confidence and accuracy (NaN if none).

    `error` is the expected calibration error, the mean of |accuracy − confidence| over the images.
    """

    low: np.ndarray
    high: np.ndarray
    images: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


@dataclass(frozen=True)
class Calibration:
    """Reliability in bins of equal width and of equal mass, and the mean confidence where it is right or wrong."""

    width: Reliability
    mass: Reliability
    confidence_right: float
    confidence_wrong: float
    confident_errors: int


def calibration(confidence: np.ndarray, right: np.ndarray) -> Calibration:
    """Returns the calibration of predictions by their confidence, (N,) in (0, 1], and whether they are right, (N,)
    bool."""
    return Calibration(
        width=equal_width(confidence, right),
        mass=equal_mass(confidence, right),
        confidence_right=_mean(confidence[right]),
        confidence_wrong=_mean(confidence[~right]),
        confident_errors=int((confidence[~right] > CONFIDENT).sum()),
    )


def equal_width(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> Reliability:
    """Returns bins of one width (Guo et al. 2017, arXiv 1706.04599, equation 3)."""
    return _reliability(confidence, right, np.linspace(0, 1, bins + 1))


def equal_mass(confidence: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> Reliability:
    """Returns bins of about as many images each (Nixon et al. 2019, arXiv 1904.01685); equal confidences share one
    bin."""
    ranks = np.ceil(np.arange(1, bins + 1) * len(confidence) / bins).astype(np.int64) - 1
    edges = np.unique(np.sort(confidence)[np.maximum(ranks, 0)])
    return _reliability(confidence, right, np.concatenate([[0.0], edges]))


def _reliability(confidence: np.ndarray, right: np.ndarray, edges: np.ndarray) -> Reliability:
    bins = len(edges) - 1
    place = np.minimum(np.searchsorted(edges, confidence, side="left") - 1, bins - 1)  # rounded, it may pass 1
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # a bin without images has no means
        mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / images
        accuracy = np.bincount(place, weights=right, minlength=bins) / images
    error = float(np.nansum(images * abs(accuracy - mean_confidence)) / len(confidence))
    return Reliability(edges[:-1], edges[1:], images, mean_confidence, accuracy, error)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
