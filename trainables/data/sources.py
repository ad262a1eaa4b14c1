"""Where images come from: the loaders of the built-in data sets, and what every loader returns."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from trainables.config import DataConfig
from trainables.data import class_names
from trainables.data.archive import Archive, unpack
from trainables.data.images import ImageSet
from trainables.errors import ConfigError

TEST_SEED = 20_240_229
"""Splits off the test part of sets that have none of their own. Any fixed number would do; it stays, since another
one would move test images into the training of the same experiment, and it does not follow the user's split seed."""


@dataclass(frozen=True)
class Source:
    """What a loader returns: the labeled images outside the test set, the test set, and constants.

    `mean` and `std` are of each channel, for pixels in 0..1. `names` and `groups` say what each class is; or empty.
    """

    rest: ImageSet
    test: ImageSet
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def load_digits(config: DataConfig) -> Source:
    """Loads scikit-learn's embedded 8x8 digits (1,797 images); a fixed, stratified fifth is the test set."""
    from sklearn.datasets import load_digits as embedded
    from sklearn.model_selection import train_test_split

    raw = embedded()
    pixels = np.round(raw.images * (255 / 16)).astype(np.uint8)[:, None]
    everything = _resized(pixels, raw.target, config.image_size)
    rest, test = train_test_split(np.arange(len(pixels)), test_size=0.2, random_state=TEST_SEED, stratify=raw.target)
    parts = everything.take(rest), everything.take(test)
    return Source(*parts, 10, mean=(0.3053,), std=(0.3760,), names=class_names.DIGITS)


def load_cifar10(config: DataConfig) -> Source:
    """Loads CIFAR-10 from torchvision's files (folder `cifar-10-batches-py` in the root), or from their archive."""
    source = _torchvision(config, "CIFAR10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return replace(source, names=class_names.CIFAR10, groups=class_names.CIFAR10_GROUPS)


def load_cifar100(config: DataConfig) -> Source:
    """Loads CIFAR-100 from torchvision's files (folder `cifar-100-python` in the root), or from their archive."""
    source = _torchvision(config, "CIFAR100", 100, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    return replace(source, names=class_names.CIFAR100, groups=class_names.CIFAR100_GROUPS)


def load_fashion_mnist(config: DataConfig) -> Source:
    """Loads Fashion-MNIST from torchvision's files (folder `FashionMNIST/raw` in the root)."""
    return replace(_torchvision(config, "FashionMNIST", 10, (0.2860,), (0.3530,)), names=class_names.FASHION_MNIST)


def _torchvision(
    config: DataConfig, name: str, classes: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Source:
    """Loads one of torchvision's data sets by the name of its class there."""
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
    """Returns the images at (size, size), resized bilinearly where they have another size."""
    if images.shape[-1] != size:
        floats = torch.from_numpy(np.ascontiguousarray(images)).float()
        scaled = F.interpolate(floats, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        images = scaled.round().clamp(0, 255).to(torch.uint8).numpy()
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64))
