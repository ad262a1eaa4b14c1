"""Which labeled images train, which validate, and which are left for the test: drawn by a seed, sharing none."""

from dataclasses import replace

import numpy as np

from trainables.config import UNBALANCED, DataConfig
from trainables.data.sources import Samples, Source
from trainables.errors import ConfigError

SHORT_SEED = 20_241_128
"""Draws the images of a rehearsal; it does not follow the user's split seed, so that all splits share them."""


def shortened(source: Source, images: int, name: str) -> Source:
    """Returns a source with at most so many images in each of its parts, of each class about the same share.

    Each class keeps two images, or the one that it has.

    Raises:
        ConfigError: these are not two for each class; `name` is that of the data set.
    """
    if images < 2 * source.classes:
        raise ConfigError(
            f"data.images is {images:,}, but must be at least {2 * source.classes:,}: two for each of the "
            f"{source.classes:,} classes of {name!r}."
        )
    rest, test = (part.take(_share(part.labels, images)) for part in (source.rest, source.test))
    val = None if source.val is None else source.val.take(_share(source.val.labels, images))
    return replace(source, rest=rest, test=test, val=val)


def _share(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of so many images, stratified by class, in their order."""
    order = np.random.default_rng(SHORT_SEED).permutation(len(labels))
    sorted_by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.concatenate([np.arange(size) for size in sizes])  # within its class
    share = np.where(rank < 2, 0.0, (rank + 0.5) / np.repeat(sizes, sizes))
    return np.sort(sorted_by_class[np.argsort(share, kind="stable")[:count]])


def split(source: Source, config: DataConfig) -> tuple[Samples, Samples, Samples]:
    """Returns the training, the validation and the test split of a source; no image is in two of them.

    Raises:
        ConfigError: a split would be empty, or lack a class that validation should draw, or the data set has no
            validation images of its own and is asked for them.
    """
    if config.validation.source == "val":
        if source.val is None:
            raise ConfigError(
                f"data.validation: data set {config.name!r} has no validation images of its own beside a test set: "
                "take a fraction from: train, or from: test."
            )
        return source.rest, source.val, source.test
    if config.validation.source == "test":
        val = _stratified(source.test.labels, config)
        return source.rest, source.test.take(np.flatnonzero(val)), source.test.take(np.flatnonzero(~val))
    val = _drawn(source.rest.labels, config)
    return source.rest.take(np.flatnonzero(~val)), source.rest.take(np.flatnonzero(val)), source.test


def _drawn(labels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Marks the images that validate, (N,) bool: of all classes together, as many as the fraction says.

    They are stratified where classes have very different counts, since a small class may get no image otherwise; not
    where a side has fewer images than there are classes.
    """
    _, counts = np.unique(labels, return_counts=True)
    smaller_side = min(count := _count(labels, config), len(labels) - count)
    if counts.max() >= UNBALANCED * counts.min() and counts.min() >= 2 and smaller_side >= len(counts):
        return _stratified(labels, config)
    order = np.random.default_rng(config.split_seed).permutation(len(labels))
    return np.isin(np.arange(len(labels)), order[:count])


def _stratified(labels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Marks the images that validate, (N,) bool: of each class about as large a share as of all."""
    from sklearn.model_selection import train_test_split

    places, count = np.arange(len(labels)), _count(labels, config)
    try:
        _, val = train_test_split(places, test_size=count, random_state=config.split_seed, stratify=labels)
    except ValueError as err:  # a class with one image, or fewer images on a side than classes
        classes, smallest = np.unique(labels, return_counts=True)
        raise ConfigError(
            f"data.validation: {count} of {len(labels)} test images cannot hold each of {len(classes)} classes, of "
            f"which the smallest has {smallest.min()}, on both sides: take another fraction, or from: train."
        ) from err
    return np.isin(places, val)


def _count(labels: np.ndarray, config: DataConfig) -> int:
    """Returns how many images validate."""
    fraction = config.validation.fraction or 0.0
    count = round(len(labels) * fraction)
    if count < 1 or count >= len(labels):
        raise ConfigError(
            f"data.validation.fraction {fraction} leaves an empty split of {len(labels)} images: "
            "choose a fraction that leaves at least one image on each side."
        )
    return count
