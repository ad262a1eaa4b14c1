"""The labeled image sets of torchvision, all by one loader: what differs between them is a table."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import DataConfig
from trainables.data import class_names
from trainables.data.decoding.encoded import EncodedImages, encoded_files
from trainables.data.images import ImageSet
from trainables.data.loaders.archive import Archive, unpack
from trainables.data.sources import Samples, Source, from_splits
from trainables.errors import ConfigError

BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}
BY_NAMES = {**BY_NAME, "val": {"split": "val"}}
"""Arguments of a class of torchvision that choose a split."""


@dataclass(frozen=True)
class Published:
    """A class of `torchvision.datasets`, and the arguments that choose each of its splits.

    One split alone means that the set has no test set. Constants and names may be given that the files do not hold.
    """

    kind: str
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"train": {}})
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


SETS = {
    "caltech101": Published("Caltech101"),
    "caltech256": Published("Caltech256"),
    "cifar10": Published(
        *("CIFAR10", BY_FLAG, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        *(class_names.CIFAR10, class_names.CIFAR10_GROUPS),
    ),
    "cifar100": Published(
        *("CIFAR100", BY_FLAG, (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        *(class_names.CIFAR100, class_names.CIFAR100_GROUPS),
    ),
    "country211": Published("Country211", {**BY_NAME, "val": {"split": "valid"}}),
    "dtd": Published("DTD", BY_NAMES),
    "emnist": Published("EMNIST", {name: {"split": "balanced", **flag} for name, flag in BY_FLAG.items()}),
    "eurosat": Published("EuroSAT"),
    "fashion_mnist": Published("FashionMNIST", BY_FLAG, (0.2860,), (0.3530,), class_names.FASHION_MNIST),
    "fgvc_aircraft": Published("FGVCAircraft", BY_NAMES),
    "flowers102": Published("Flowers102", BY_NAMES),
    "food101": Published("Food101", BY_NAME),
    "gtsrb": Published("GTSRB", BY_NAME),
    "imagenette": Published("Imagenette", {"train": {"split": "train"}, "test": {"split": "val"}}),
    "kmnist": Published("KMNIST", BY_FLAG),
    "mnist": Published("MNIST", BY_FLAG, names=class_names.DIGITS),
    "oxford_iiit_pet": Published("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "rendered_sst2": Published("RenderedSST2", BY_NAMES),
    "semeion": Published("SEMEION", names=class_names.DIGITS),
    "stanford_cars": Published("StanfordCars", BY_NAME),
    "stl10": Published("STL10", BY_NAME),
    "svhn": Published("SVHN", BY_NAME, names=class_names.DIGITS),
    "usps": Published("USPS", BY_FLAG, names=class_names.DIGITS),
}
"""What is left out has no single class for an image, needs more libraries, or has its images in no fixed order."""


def load_torchvision(config: DataConfig) -> Source:
    """Loads one of `SETS` from torchvision's files below the root, or CIFAR's from their archive.

    Raises:
        ConfigError: the files are missing or damaged.
    """
    published = SETS[config.name]
    kind = _kind(published.kind)
    root = Path(config.root or "data").expanduser()
    if published.kind.startswith("CIFAR"):
        root = unpack(Archive(kind.filename, kind.base_folder, kind.tgz_md5), root)
    raw = {split: _open(kind, root, dict(arguments), config) for split, arguments in published.splits.items()}
    parts = {split: _samples(part) for split, part in raw.items()}
    names = published.names or _names(raw["train"])
    return from_splits(parts, config, mean=published.mean, std=published.std, names=names, groups=published.groups)


def _kind(name: str) -> Any:
    """Returns a class of torchvision; those of MNIST's family without the pickle files of its former versions."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    legacy = {"_check_legacy_exist": lambda self: False} if issubclass(kind, datasets.MNIST) else {}
    return type(kind.__name__, (kind,), legacy)  # of the same name, which is the folder's


def _open(kind: Any, root: Path, arguments: dict[str, Any], config: DataConfig) -> Any:
    try:
        return kind(root, **arguments, download=config.download)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
        raise ConfigError(
            f"data set {config.name!r} is not usable in {root}: {reason}; "
            "set data.root to the folder that holds the unpacked files, or data.download to true."
        ) from err


def _samples(raw: Any) -> Samples:
    """Returns the images in memory where torchvision has them there, and else encoded, by their paths if known."""
    pairs = _first(raw, "_samples", "samples")
    labels = [label for _, label in pairs] if pairs else _first(raw, "targets", "labels", "_labels", "y")
    labels = np.asarray(labels).astype(np.int64)
    if hasattr(raw, "data"):
        images = np.asarray(raw.data)
        if images.ndim == 3:
            images = images[:, None]
        return ImageSet(images if images.shape[1] in (1, 3) else images.transpose(0, 3, 1, 2), labels)
    files = [path for path, _ in pairs] if pairs else _first(raw, "_image_files", "_images") or ()
    if len(files):
        return encoded_files(labels, [os.fspath(path) for path in files])
    name = f"image {{}} of {type(raw).__name__}".format
    return EncodedImages(labels, np.arange(len(labels)), lambda place: raw[place][0], name)


def _first(raw: Any, *names: str) -> Any:
    """Returns the first of these attributes that there is."""
    return next((getattr(raw, name) for name in names if hasattr(raw, name)), None)


def _names(raw: Any) -> tuple[str, ...]:
    """Returns the names of the classes; of several names for one, the first."""
    found = _first(raw, "classes", "categories") or ()
    return tuple(name if isinstance(name, str) else name[0] for name in found)
