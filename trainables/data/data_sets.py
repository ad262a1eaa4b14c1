"""Data sets: a source of images, checked, split by a seed, and named by a fingerprint of its bytes."""

import hashlib
from dataclasses import dataclass, replace

import torch

from trainables.config import DATASETS, DataConfig
from trainables.data.augment import check_channels
from trainables.data.images import Images, ImageSet
from trainables.data.sources import Source
from trainables.data.splits import split
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
    source = _load(config)
    check_channels(config.augment, source.rest.images.shape[1])
    train, val, _ = split(source, config)
    digest = hashlib.sha256(repr((source.classes, source.mean, source.std)).encode())
    for array in (train.images, train.labels, val.images, val.labels):
        digest.update(array.tobytes())
    constants = (source.classes, source.mean, source.std, digest.hexdigest(), source.names, source.groups)
    return DataSet(train, val, *constants)


def _load(config: DataConfig) -> Source:
    """Loads a source and checks it; a mean or std in the configuration replaces the data set's own."""
    source: Source = DATASETS[config.name](config)
    for part in (source.rest, source.test):
        if len(part) == 0:
            raise ConfigError(f"data set {config.name!r} has an empty split: unpack its files again.")
        if part.labels.min() < 0 or part.labels.max() >= source.classes:
            raise ConfigError(
                f"data set {config.name!r}: labels must lie in 0..{source.classes - 1}, "
                f"but lie in {part.labels.min()}..{part.labels.max()}: unpack its files again."
            )
    for words in (source.names, source.groups):
        if words and len(words) != source.classes:
            raise ConfigError(
                f"data set {config.name!r} has {source.classes} classes, but {len(words)} names or groups of classes: "
                "its loader must give one for each, or none."
            )
    return replace(source, mean=_constants(config, "mean", source), std=_constants(config, "std", source))


def _constants(config: DataConfig, name: str, source: Source) -> tuple[float, ...]:
    """Returns the mean or std, as `name` says, that the configuration gives, or else the data set's own."""
    given: tuple[float, ...] | None = getattr(config, name)
    channels = source.rest.images.shape[1]
    if given is not None and len(given) != channels:
        raise ConfigError(
            f"data.{name} must hold a number for each of the {channels} channels of {config.name!r}, "
            f"but holds {len(given)}: leave it out for the data set's own."
        )
    own: tuple[float, ...] = getattr(source, name)
    return own if given is None else given


def load_test_images(config: DataConfig, device: torch.device) -> Images:
    """Loads the test split to a device: the test set without the images of it that validate.

    Only the last step of a search asks for it: no choice may depend on it.

    Raises:
        ConfigError: the files, labels or constants are refused, as by `load_data`.
    """
    source = _load(config)
    _, _, test = split(source, config)
    return Images(test, source.mean, source.std, device)
