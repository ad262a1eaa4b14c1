"""Labels: one class for each image, as numbers from 0, whatever the classes are called in the files."""

from collections.abc import Mapping

import numpy as np

from trainables.errors import ConfigError

ONE_CLASS = "one class per image is what this program compresses for"


def class_labels(
    given: Mapping[str, np.ndarray], what: str, names: tuple[str, ...] = ()
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the labels of each split (N,) int64, and the names of the classes in the order of their numbers.

    Labels are integers or text, (N,) or (N, 1). With `names`, integers are places in these. Without, the classes are
    those of the first split, sorted.

    Raises:
        ConfigError: there are several labels for an image, or none, or other values; `what` names their place.
    """
    flat = {split: one_class_each(labels, what) for split, labels in given.items()}
    first = next(iter(flat.values()))
    if names and first.dtype.kind in "iu":
        return {split: labels.astype(np.int64) for split, labels in flat.items()}, names
    classes = np.unique(first)
    for split, labels in flat.items():
        unknown = np.setdiff1d(labels, classes)
        if len(unknown):
            raise ConfigError(
                f"{what}: the {split} images have the class {unknown[0].item()!r}, which the training images do not "
                "have: remove it."
            )
    numbers = {split: np.searchsorted(classes, labels).astype(np.int64) for split, labels in flat.items()}
    return numbers, tuple(str(name) for name in classes)


def one_class_each(labels: np.ndarray, what: str) -> np.ndarray:
    """Returns labels (N,) or (N, 1) as a vector of integers or text.

    Raises:
        ConfigError: they are no single class for each image; `what` names their place.
    """
    what = f"{what}: labels"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        way_out = "save labels.argmax(1)" if _one_hot(labels) else "choose one class for each image"
        raise ConfigError(f"{what} have {labels.shape[1]} values for each image, but {ONE_CLASS}: {way_out}.")
    if labels.ndim > 2:
        raise ConfigError(f"{what} have the shape {labels.shape}, as maps of classes do, but {ONE_CLASS}.")
    if labels.dtype == object:  # text, unless something is missing
        if not all(isinstance(label, str) for label in labels):
            raise ConfigError(f"{what} are partly missing or no text, but {ONE_CLASS}: leave those images out.")
        labels = labels.astype(str)
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as err:
            raise ConfigError(f"{what} are bytes that are no text in UTF-8: save classes as integers or text.") from err
    if labels.dtype.kind == "f":
        raise ConfigError(
            f"{what} are {labels.dtype}, as targets of a regression are, but {ONE_CLASS}: save classes as integers."
        )
    if not labels.ndim:
        raise ConfigError(
            f"{what} are a single value, but {ONE_CLASS}: save classes as integers or text, one for each image."
        )
    if labels.dtype.kind not in "iuUb":
        raise ConfigError(f"{what} are {labels.dtype}, but {ONE_CLASS}: save classes as integers or text.")
    return labels


def _one_hot(labels: np.ndarray) -> bool:
    """Whether each row marks one class."""
    return labels.dtype.kind in "biuf" and bool(((labels != 0).sum(axis=1) == 1).all())
