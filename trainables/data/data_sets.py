"""Data sets: a source of images, checked, split by a seed, and named by a fingerprint of its bytes."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from trainables.config import DATASETS, DataConfig, height_and_width
from trainables.data.augmentation.augment import check_channels
from trainables.data.checks import checked, refuse_small_classes
from trainables.data.constants import constants, level_counts
from trainables.data.decoding.decode_once import Decoder, Watch, image_cache, unwatched
from trainables.data.decoding.encoded import EncodedImages, Form
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.decoding.resize import fitted
from trainables.data.fingerprint import fingerprint_of
from trainables.data.images import Images, ImageSet
from trainables.data.sources import Samples, Source
from trainables.data.splits import shortened, split
from trainables.errors import ConfigError

IN_MEMORY_BYTES = 512 << 20
"""A set with at most so many bytes is held in memory, and Ray carries it to other machines; of a larger one, what had
to be decoded is read from the files of decoded images, which each machine makes for itself. CIFAR has 150 MB."""


@dataclass(frozen=True)
class DataSet:
    """The training and the validation split of one data set: arrays that are cheap to share, or names of files.

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

    @property
    def here(self) -> bool:
        """Whether all images are on this machine; those of a large set are in files, which each machine makes."""
        parts = (self.train.images, self.val.images)
        return all(images.here for images in parts if isinstance(images, MappedPixels))


def load_data(config: DataConfig, *, watch: Watch | None = None) -> DataSet:
    """Loads a data set as training and validation images; the rest of its test set is left out.

    `watch` is told how many images are decoded, and of how many.

    Raises:
        ConfigError: files are missing or damaged, labels are out of range, a split would be empty, or the
            constants or the augmentation do not fit the images.
        StorageUnavailable: decoded images cannot be kept on this machine.
    """
    source, mean, std = _load(config, watch)
    check_channels(config.augment, len(mean))
    train, val, _ = split(source, config)
    if config.validation.source != "train":  # the others have their size already
        val, _ = _at_size(val, config, len(mean), watch)
    assert isinstance(train, ImageSet)
    assert isinstance(val, ImageSet)
    train, val = _in_memory_if_small(train, val)
    fingerprint = fingerprint_of((source.classes, mean, std), train, val, image_cache(config.cache))
    return DataSet(train, val, source.classes, mean, std, fingerprint, source.names, source.groups)


def load_source(config: DataConfig) -> Source:
    """Finds the images of a data set and their labels, as many as the configuration asks for; none is decoded.

    Raises:
        ConfigError: files are missing or damaged, or labels are out of range.
    """
    source = checked(DATASETS[config.name](config), config.name)
    return source if config.images is None else shortened(source, config.images, config.name)


def asked_channels(config: DataConfig) -> int | None:
    """Returns 3 where a mean of three channels asks for as many, also of gray images; else None, for their own."""
    return 3 if config.mean is not None and len(config.mean) == 3 else None


def _load(config: DataConfig, watch: Watch | None = None) -> tuple[Source, tuple[float, ...], tuple[float, ...]]:
    """Loads a source, checks it, and decodes the images that may train; returns it with mean and std.

    A mean or std in the configuration replaces the data set's own, or that of its images.
    """
    source = load_source(config)
    rest, counts = _at_size(source.rest, config, asked_channels(config), watch)
    refuse_small_classes(rest.labels, source, config.name)
    mean, std = config.mean or source.mean, config.std or source.std
    if mean is None or std is None:
        found = constants(counts if counts is not None else level_counts(np.asarray(rest.images)))
        mean, std = mean or found[0], std or found[1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != rest.images.shape[1]:
            raise ConfigError(
                f"data.{name} must hold a number for each of the {rest.images.shape[1]} channels of {config.name!r}, "
                f"but holds {len(values)}: leave it out for the data set's own."
            )
    return replace(source, rest=rest), mean, std


def _at_size(
    part: Samples, config: DataConfig, channels: int | None = None, watch: Watch | None = None
) -> tuple[ImageSet, np.ndarray | None]:
    """Returns images decoded, at the size of the model's input, and counts of their levels where these are known.

    Without `channels` these are the images' own; three of them repeat what is gray.
    """
    size = height_and_width(config.image_size)
    if isinstance(part, EncodedImages):
        decoder = Decoder(image_cache(config.cache), skip=config.on_error == "skip", watch=watch or unwatched)
        return decoder.decoded(part, Form(size, channels, config.center_crop))
    assert isinstance(part.images, np.ndarray)
    images = fitted(part.images, size, crop=config.center_crop)
    if channels == 3 and images.shape[1] == 1:
        images = np.repeat(images, 3, axis=1)
    return ImageSet(np.ascontiguousarray(images), part.labels), None


def _in_memory_if_small(*parts: ImageSet) -> list[ImageSet]:
    """Returns the same images, read from their files unless they are more than memory should hold."""
    small = sum(part.images.nbytes for part in parts) <= IN_MEMORY_BYTES
    return [part.in_memory() if small else part for part in parts]


def load_test_images(config: DataConfig, device: torch.device) -> Images:
    """Loads the test split to a device, as `load_test_set` does."""
    source, mean, std = _load(config)
    return Images(_test_set(source, config, len(mean)), mean, std, device)


def load_test_set(config: DataConfig) -> ImageSet:
    """Loads the test split: the test set without the images of it that validate.

    Only what comes after a search asks for it: no choice may depend on it.

    Raises:
        ConfigError: the files, labels or constants are refused, as by `load_data`.
    """
    source, mean, _ = _load(config)
    return _test_set(source, config, len(mean))


def _test_set(source: Source, config: DataConfig, channels: int) -> ImageSet:
    _, _, test = split(source, config)
    [images] = _in_memory_if_small(_at_size(test, config, channels)[0])
    return images
