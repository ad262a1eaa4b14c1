"""Which labeled images train, which validate, and which are left for the test: drawn by a seed, sharing none."""

import numpy as np

from trainables.config import DataConfig
from trainables.data.images import ImageSet
from trainables.data.sources import Source
from trainables.errors import ConfigError


def split(source: Source, config: DataConfig) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Returns the training, the validation and the test split of a source; together they hold each image once.

    Raises:
        ConfigError: a split would be empty, or lack a class that validation should draw.
    """
    if config.validation.source == "test":
        val = _stratified(source.test.labels, config)
        return source.rest, source.test.take(np.flatnonzero(val)), source.test.take(np.flatnonzero(~val))
    val = _drawn(source.rest.labels, config)
    return source.rest.take(np.flatnonzero(~val)), source.rest.take(np.flatnonzero(val)), source.test


def _drawn(labels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Marks the images that validate, (N,) bool: of all classes together, as many as the fraction says."""
    order = np.random.default_rng(config.split_seed).permutation(len(labels))
    return np.isin(np.arange(len(labels)), order[: _count(labels, config)])


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
    share = config.validation
    count = round(len(labels) * share.fraction)
    if count < 1 or count >= len(labels):
        raise ConfigError(
            f"data.validation.fraction {share.fraction} leaves an empty split of {len(labels)} images: "
            "choose a fraction that leaves at least one image on each side."
        )
    return count
