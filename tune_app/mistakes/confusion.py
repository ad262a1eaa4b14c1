"""The confusion matrix of a network, and what follows from it: what is mistaken for what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ACROSS = "across groups"


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were given another one; `share` is of the images of the true class."""

    label: int
    predicted: int
    count: int
    share: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Returns images by true class (row) and predicted class (column), (C, C) int64."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def shares(matrix: np.ndarray) -> np.ndarray:
    """Returns the matrix over the images of each true class, (C, C) float64; rows sum to 1, or to 0 without an
    image."""
    images = np.maximum(matrix.sum(1, keepdims=True), 1)
    part: np.ndarray = matrix / images
    return part


def confusions(matrix: np.ndarray) -> list[Confusion]:
    """Returns what is mistaken for what, the most frequent first; equal counts are in the order of the matrix."""
    errors = matrix - np.diag(matrix.diagonal())
    part = shares(matrix)
    order = np.argsort(-errors, axis=None, kind="stable")[: np.count_nonzero(errors)]
    rows, columns = np.unravel_index(order, errors.shape)
    return [Confusion(int(i), int(j), int(errors[i, j]), float(part[i, j])) for i, j in zip(rows, columns, strict=True)]


@dataclass(frozen=True)
class MutualConfusion:
    """Images of two classes that were given the other one: `forth` of the first, `back` of the second.

    `share` is of the images of both classes.
    """

    first: int
    second: int
    forth: int
    back: int
    share: float

    @property
    def count(self) -> int:
        """The errors of both directions together."""
        return self.forth + self.back


def mutual_confusions(matrix: np.ndarray) -> list[MutualConfusion]:
    """Returns pairs of classes by the errors between them, both directions added, the most frequent first.

    The class that loses more images to the other one is the first; equal counts are in the order of the matrix.
    """
    images = matrix.sum(1)
    between = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-between, axis=None, kind="stable")[: np.count_nonzero(between)]
    pairs = zip(*np.unravel_index(order, between.shape), strict=True)
    found = [(int(i), int(j)) if matrix[i, j] >= matrix[j, i] else (int(j), int(i)) for i, j in pairs]
    return [
        MutualConfusion(
            i, j, forth := int(matrix[i, j]), back := int(matrix[j, i]), (forth + back) / int(images[[i, j]].sum())
        )
        for i, j in found
    ]


def errors_by_group(matrix: np.ndarray, groups: Sequence[str]) -> dict[str, int]:
    """Returns errors inside each group of classes, and `ACROSS` them; they sum to all errors."""
    errors = matrix - np.diag(matrix.diagonal())
    names = list(dict.fromkeys(groups))
    own = np.array([names.index(group) for group in groups])
    inside = {name: int(errors[np.ix_(own == i, own == i)].sum()) for i, name in enumerate(names)}
    return {**inside, ACROSS: int(errors.sum()) - sum(inside.values())}


def hardest(matrix: np.ndarray, limit: int) -> np.ndarray:
    """Returns at most `limit` classes that take part in the most errors, as true or as predicted class, in their
    order."""
    errors = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-(errors.sum(0) + errors.sum(1)), kind="stable")
    return np.sort(order[:limit])
