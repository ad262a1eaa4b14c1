"""How one network does on a split, and what changes from one network to another."""

from dataclasses import dataclass

import numpy as np

from trainables.train.class_scores import ClassScores, class_scores
from tune_app.mistakes.calibration import Calibration, calibration
from tune_app.mistakes.confusion import confusion_matrix


@dataclass(frozen=True)
class Outcome:
    """Predictions of one network for N images, and their scores; `right` is (N,) bool, `matrix` (C, C)."""

    predicted: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    matrix: np.ndarray
    scores: ClassScores
    calibration: Calibration

    @property
    def accuracy(self) -> float:
        """The fraction of images that the network has right."""
        return float(self.right.mean())

    @property
    def errors(self) -> np.ndarray:
        """The places of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


@dataclass(frozen=True)
class Change:
    """What changes from a reference network to another one, on the same images.

    `newly_wrong` and `newly_right` are places of images, the most confident answer of the other network first;
    `broken` and `repaired` count them by true class, (C,). `agreement` is the share of images with one prediction.
    `p_value` is that of McNemar's exact test: how likely so lopsided a change is if neither network is better.
    """

    accuracy: float
    newly_wrong: np.ndarray
    newly_right: np.ndarray
    broken: np.ndarray
    repaired: np.ndarray
    class_accuracy: np.ndarray
    agreement: float
    p_value: float


def judge(labels: np.ndarray, probabilities: np.ndarray) -> Outcome:
    """Returns the outcome of a network with these class probabilities, (N, C), on images with these labels, (N,)."""
    predicted = probabilities.argmax(1)
    confidence, right = probabilities.max(1), predicted == labels
    matrix = confusion_matrix(labels, predicted, probabilities.shape[1])
    scores = class_scores(matrix.sum(1), matrix.sum(0), matrix.diagonal())
    return Outcome(predicted, confidence, right, matrix, scores, calibration(confidence, right))


def compare(labels: np.ndarray, reference: Outcome, other: Outcome) -> Change:
    """Returns what changes from the reference to the other network."""
    newly_wrong = other.errors[reference.right[other.errors]]
    newly_right = np.flatnonzero(other.right & ~reference.right)
    newly_right = newly_right[np.argsort(-other.confidence[newly_right], kind="stable")]
    classes = len(other.matrix)
    return Change(
        accuracy=other.accuracy - reference.accuracy,
        newly_wrong=newly_wrong,
        newly_right=newly_right,
        broken=np.bincount(labels[newly_wrong], minlength=classes),
        repaired=np.bincount(labels[newly_right], minlength=classes),
        class_accuracy=other.scores.accuracy - reference.scores.accuracy,
        agreement=float((other.predicted == reference.predicted).mean()),
        p_value=mcnemar(len(newly_wrong), len(newly_right)),
    )


def mcnemar(broken: int, repaired: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test (McNemar 1947): both changes are equally likely."""
    from scipy.stats import binomtest

    return float(binomtest(broken, broken + repaired).pvalue) if broken + repaired else 1.0
