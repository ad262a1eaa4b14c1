"""Data sets: loaded once as uint8 arrays, split by a seed, kept on the device, augmented in batches."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables import class_names
from trainables.archive import Archive, unpack
from trainables.augment import change, check_channels, cover
from trainables.config import DATASETS, Augment, DataConfig
from trainables.errors import ConfigError

TEST_SEED = 20_240_229
"""Splits off the test part of sets that have none of their own; independent of the user's split seed."""


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, S, S) uint8 and labels (N,) int64."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "ImageSet":
        """The images at these places."""
        return ImageSet(self.images[index], self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """What a loader returns: the labelled images outside the test set, the test set, and constants.

    `names` and `groups` say in words what each class is; empty where nobody knows.
    """

    rest: ImageSet
    test: ImageSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """Training and validation split of one data set; the test set is not in it. Plain arrays, cheap to share."""

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
        """Colour channels."""
        return int(self.train.images.shape[1])


def load_data(config: DataConfig) -> DataSet:
    """The training and validation split.

    Raises:
        ConfigError: files are missing or damaged, labels are out of range, a split would be empty, or the
            constants or the augmentation do not fit the images.
    """
    source = _load(config)
    check_channels(config.augment, source.rest.images.shape[1])
    order = np.random.default_rng(config.split_seed).permutation(len(source.rest))
    n_val = round(len(source.rest) * config.val_fraction)
    if n_val < 1 or n_val >= len(source.rest):
        raise ConfigError(
            f"data.val_fraction {config.val_fraction} leaves an empty split of {len(source.rest)} images: "
            "choose a fraction that leaves at least one image on each side."
        )
    train, val = source.rest.take(np.sort(order[n_val:])), source.rest.take(np.sort(order[:n_val]))
    digest = hashlib.sha256(repr((source.classes, source.mean, source.std)).encode())
    for part in (train, val):
        digest.update(part.images.tobytes())
        digest.update(part.labels.tobytes())
    return DataSet(
        *(train, val, source.classes, source.mean, source.std, digest.hexdigest()),
        names=source.names,
        groups=source.groups,
    )


def _load(config: DataConfig) -> Source:
    loader: Callable[[DataConfig], Source] = DATASETS[config.name]
    source = loader(config)
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
    """The configuration's mean or std, or else the data set's own."""
    given: tuple[float, ...] | None = getattr(config, name)
    channels = source.rest.images.shape[1]
    if given is not None and len(given) != channels:
        raise ConfigError(
            f"data.{name} must hold a number for each of the {channels} channels of {config.name!r}, "
            f"but holds {len(given)}: leave it out for the data set's own."
        )
    own: tuple[float, ...] = getattr(source, name)
    return own if given is None else given


def load_digits(config: DataConfig) -> Source:
    """scikit-learn's embedded 8x8 digits (1,797 images); a fixed, stratified fifth is the test set."""
    from sklearn.datasets import load_digits as embedded
    from sklearn.model_selection import train_test_split

    raw = embedded()
    pixels = np.round(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    everything = _resized(pixels, raw.target, config.image_size)
    rest, test = train_test_split(np.arange(len(pixels)), test_size=0.2, random_state=TEST_SEED, stratify=raw.target)
    parts = everything.take(rest), everything.take(test)
    return Source(*parts, 10, mean=(0.3053,), std=(0.3760,), names=class_names.DIGITS)


def load_cifar10(config: DataConfig) -> Source:
    """CIFAR-10 from torchvision's files (folder `cifar-10-batches-py` under the root), or from their archive."""
    source = _torchvision(config, "CIFAR10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return replace(source, names=class_names.CIFAR10, groups=class_names.CIFAR10_GROUPS)


def load_cifar100(config: DataConfig) -> Source:
    """CIFAR-100 from torchvision's files (folder `cifar-100-python` under the root), or from their archive."""
    source = _torchvision(config, "CIFAR100", 100, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    return replace(source, names=class_names.CIFAR100, groups=class_names.CIFAR100_GROUPS)


def load_fashion_mnist(config: DataConfig) -> Source:
    """Fashion-MNIST from torchvision's files (folder `FashionMNIST/raw` under the root)."""
    return replace(_torchvision(config, "FashionMNIST", 10, (0.2860,), (0.3530,)), names=class_names.FASHION_MNIST)


def _torchvision(
    config: DataConfig, name: str, classes: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Source:
    from torchvision import datasets

    kind = getattr(datasets, name)
    root = Path(config.root or "data").expanduser()
    if hasattr(kind, "tgz_md5"):
        root = unpack(Archive(kind.filename, kind.base_folder, kind.tgz_md5), root)
    way_out = "set data.root to the folder that holds the unpacked files, or data.download to true"
    parts = []
    for train in (True, False):
        try:
            raw: Any = kind(root, train=train, download=config.download)
        except (RuntimeError, OSError, ValueError, EOFError) as err:
            reason = str(err).splitlines()[0]
            raise ConfigError(f"data set {config.name!r} is not usable in {root}: {reason}; {way_out}.") from err
        images = np.asarray(raw.data)
        images = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
        parts.append(_resized(images, np.asarray(raw.targets), config.image_size))
    return Source(parts[0], parts[1], classes, mean, std)


def _resized(images: np.ndarray, labels: np.ndarray, size: int) -> ImageSet:
    """Bilinear to (size, size) when the images have another size."""
    if images.shape[-1] != size:
        floats = torch.from_numpy(np.ascontiguousarray(images)).float()
        scaled = F.interpolate(floats, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        images = scaled.round().clamp(0, 255).to(torch.uint8).numpy()
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64))


class Images:
    """One split on a device: uint8 images, normalised when a batch is drawn."""

    def __init__(self, images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        # A copy: arrays shared between processes are read-only, which torch tensors cannot express.
        self.pixels = torch.from_numpy(images.images.copy()).to(device)
        self.labels = torch.from_numpy(images.labels.copy()).to(device)
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=device).view(1, -1, 1, 1) * 255)

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, pixels: Tensor) -> Tensor:
        """(B, C, S, S) uint8 → float32, zero mean, channels last."""
        return ((pixels.float() - self._mean) * self._scale).contiguous(memory_format=torch.channels_last)

    def batch_count(self, size: int) -> int:
        """Batches of about equal size, at most `size`; one more image where a batch would hold one alone
        (batch norm needs two)."""
        return max(1, min(-(-len(self) // size), len(self) // 2))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, without augmentation: (B, C, S, S) float32 and (B,) int64."""
        count = self.batch_count(size)
        for pixels, labels in zip(self.pixels.tensor_split(count), self.labels.tensor_split(count), strict=True):
            yield self.normalised(pixels), labels

    def shuffled(self, size: int, augment: Augment, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once in random order, augmented: every image is seen in each epoch."""
        order = torch.randperm(len(self), generator=generator).to(self.labels.device, non_blocking=True)
        for place in order.tensor_split(self.batch_count(size)):
            yield self._augmented(self.pixels[place], augment, generator), self.labels[place]

    def sample(self, count: int, seed: int) -> "Images":
        """A seeded subset, for calibration and batch-norm re-estimation."""
        generator = torch.Generator().manual_seed(seed)
        place = torch.randperm(len(self), generator=generator)[:count].to(self.labels.device)
        part = object.__new__(Images)
        part.pixels, part.labels, part._mean, part._scale = (
            self.pixels[place],
            self.labels[place],
            self._mean,
            self._scale,
        )
        return part

    def _augmented(self, pixels: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
        return cover(self.normalised(change(pixels, augment, generator)), augment, generator)


def load_test_images(config: DataConfig, device: torch.device) -> Images:
    """The test set on a device; only the final step of a sweep asks for it.

    Raises:
        ConfigError: as in `load_data`.
    """
    source = _load(config)
    return Images(source.test, source.mean, source.std, device)
