"""Scores of each class by counts of images, and their means in which each class counts alike."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, (C,) float64; NaN where nothing is divided by nothing.

    `accuracy` is the share of a class's images that are right (its recall), `precision` the share of the images
    given a class that have it, `f1` the harmonic mean of the two.
    """

    images: np.ndarray
    right: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray
    f1: np.ndarray


def class_scores(images: np.ndarray, given: np.ndarray, right: np.ndarray) -> ClassScores:
    """Returns the scores of each class by the images that have it, those that are given it, and those of both, (C,)."""
    return ClassScores(
        images=images,
        right=right,
        accuracy=_ratio(right, images),
        precision=_ratio(right, given),
        f1=_ratio(2 * right, images + given),
    )


def mean_score(scores: np.ndarray) -> float:
    """Returns the mean over the classes that have a score, rounded once: no processor finds another one.

    Of the recalls it is the balanced accuracy, of the F1 scores the macro F1.
    """
    known = scores[~np.isnan(scores)].tolist()
    return math.fsum(known) / len(known) if known else math.nan


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return quotient
