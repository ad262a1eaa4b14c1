"""Which labeled images train, which validate, and which are left for the test: drawn by a seed, sharing none."""

import numpy as np

from trainables.config import DataConfig
from trainables.data.sources import Samples, Source
from trainables.errors import ConfigError


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
    fraction = config.validation.fraction or 0.0
    count = round(len(labels) * fraction)
    if count < 1 or count >= len(labels):
        raise ConfigError(
            f"data.validation.fraction {fraction} leaves an empty split of {len(labels)} images: "
            "choose a fraction that leaves at least one image on each side."
        )
    return count
