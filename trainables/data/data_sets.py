"""Data sets: a source of images, checked, split by a seed, and named by a fingerprint of its bytes."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from trainables.config import DATASETS, DataConfig, height_and_width
from trainables.data.augment import check_channels
from trainables.data.checks import checked, refuse_single_images
from trainables.data.encoded import EncodedImages
from trainables.data.images import Images, ImageSet
from trainables.data.resize import fitted
from trainables.data.sources import Samples, Source
from trainables.data.splits import shortened, split
from trainables.errors import ConfigError


@dataclass(frozen=True)
class DataSet:
    """The training and the validation split of one data set, as plain arrays that are cheap to share.

    The test set is not in it. `fingerprint` is the SHA-256 of all images, labels and constants.
    """

    train: ImageSet
    val: ImageSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """The number of color channels."""
        return int(self.train.images.shape[1])


def load_data(config: DataConfig) -> DataSet:
    """Loads a data set as training and validation images; the rest of its test set is left out.

    Raises:
        ConfigError: files are missing or damaged, labels are out of range, a split would be empty, or the
            constants or the augmentation do not fit the images.
    """
    source, mean, std = _load(config)
    check_channels(config.augment, len(mean))
    train, val, _ = split(source, config)
    if config.validation.source != "train":  # the others are in memory already, at their size
        val = _in_memory(val, config, len(mean))
    assert isinstance(train, ImageSet)
    assert isinstance(val, ImageSet)
    digest = hashlib.sha256(repr((source.classes, mean, std)).encode())
    for array in (train.images, train.labels, val.images, val.labels):
        digest.update(array.tobytes())
    constants = (source.classes, mean, std, digest.hexdigest(), source.names, source.groups)
    return DataSet(train, val, *constants)


def _load(config: DataConfig) -> tuple[Source, tuple[float, ...], tuple[float, ...]]:
    """Loads a source, checks it, and decodes the images that may train; returns it with mean and std.

    A mean or std in the configuration replaces the data set's own, or that of its images.
    """
    source = checked(DATASETS[config.name](config), config.name)
    if config.images is not None:
        source = shortened(source, config.images, config.name)
    rest = _in_memory(source.rest, config)
    refuse_single_images(rest.labels, source, config.name)
    mean, std = config.mean or source.mean, config.std or source.std
    if mean is None or std is None:
        found = rest.constants()
        mean, std = mean or found[0], std or found[1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != rest.images.shape[1]:
            raise ConfigError(
                f"data.{name} must hold a number for each of the {rest.images.shape[1]} channels of {config.name!r}, "
                f"but holds {len(values)}: leave it out for the data set's own."
            )
    return replace(source, rest=rest), mean, std


def _in_memory(part: Samples, config: DataConfig, channels: int | None = None) -> ImageSet:
    """Returns images decoded, at the size of the model's input."""
    size, crop = height_and_width(config.image_size), config.center_crop
    if isinstance(part, EncodedImages):
        return part.decoded(size, channels, crop=crop, skip=config.on_error == "skip")
    return ImageSet(np.ascontiguousarray(fitted(part.images, size, crop=crop)), part.labels)


def load_test_images(config: DataConfig, device: torch.device) -> Images:
    """Loads the test split to a device: the test set without the images of it that validate.

    Only the last step of a search asks for it: no choice may depend on it.

    Raises:
        ConfigError: the files, labels or constants are refused, as by `load_data`.
    """
    source, mean, std = _load(config)
    _, _, test = split(source, config)
    return Images(_in_memory(test, config, len(mean)), mean, std, device)
