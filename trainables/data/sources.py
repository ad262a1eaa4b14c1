"""Where images come from: what every loader of a data set returns, and the digits, which are always at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.config import DataConfig
from trainables.data import class_names
from trainables.data.decoding.encoded import EncodedImages
from trainables.data.images import ImageSet
from trainables.errors import ConfigError

TEST_SEED = 20_240_229
"""Splits off the test part of sets that have none of their own. Any fixed number would do; it stays, since another
one would move test images into the training of the same experiment, and it does not follow the user's split seed."""

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What the splits of a data set are called in the names of folders and files, in lower case."""

Samples = ImageSet | EncodedImages
"""Labeled images: in memory, of any one size, or encoded."""


@dataclass(frozen=True)
class Source:
    """What a loader returns: the images that may train, the test set, and constants.

    `val` holds the data set's own validation images, if it has any; they are in neither of the others. `mean` and `std`
    are of each channel, for pixels in 0..1; without them they are taken from the images of `rest`. `names` and `groups`
    say what each class is; or are empty.
    """

    rest: Samples
    test: Samples
    classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    val: Samples | None = None


def load_digits(config: DataConfig) -> Source:
    """Loads scikit-learn's embedded 8x8 digits (1,797 images); a fixed, stratified share is the test set."""
    from sklearn.datasets import load_digits as embedded

    raw = embedded()
    images = ImageSet(np.round(raw.images * (255 / 16)).astype(np.uint8)[:, None], raw.target.astype(np.int64))
    return from_splits({"train": images}, config, mean=(0.3053,), std=(0.3760,), names=class_names.DIGITS)


def from_splits(
    parts: Mapping[str, Samples],
    config: DataConfig,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    names: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
) -> Source:
    """Returns a source of the training images and of whatever splits there are beside them, `test` and `val`.

    Without a test split, the validation images are the test set. Without both, the share `test_fraction` of all images
    is, stratified, by a fixed seed.

    Raises:
        ConfigError: that share cannot hold each class, as when a class has a single image.
    """
    if set(parts) == {"train"}:
        parts = _drawn_test(parts["train"], config)
    classes = max(len(names), *(int(part.labels.max(initial=0)) + 1 for part in parts.values()))
    test, val = (parts["test"], parts.get("val")) if "test" in parts else (parts["val"], None)
    return Source(parts["train"], test, classes, mean, std, names, groups, val)


def _drawn_test(images: Samples, config: DataConfig) -> dict[str, Samples]:
    from sklearn.model_selection import train_test_split

    _, counts = np.unique(images.labels, return_counts=True)
    try:
        train, test = train_test_split(
            np.arange(len(images)), test_size=config.test_fraction, random_state=TEST_SEED, stratify=images.labels
        )
    except ValueError as err:
        raise ConfigError(
            f"data.test_fraction {config.test_fraction:g} of {len(images):,} images cannot hold each of {len(counts)} "
            f"classes, of which the smallest has {counts.min()}: take another fraction, or give that class more images."
        ) from err
    return {"train": images.take(train), "test": images.take(test)}


def split_of(name: str) -> str:
    """Returns the split that a folder or a file is called after: train, val or test; empty for other names."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), "")


def root_of(config: DataConfig) -> Path:
    """Returns the place of a data set's files.

    Raises:
        ConfigError: there is nothing.
    """
    root = Path(config.root or "data").expanduser()
    try:
        if root.exists():
            return root
    except (OSError, ValueError) as err:
        raise ConfigError(f"{str(root)!r} is no usable path: {err}. Set data.root to another one.") from err
    raise ConfigError(f"data set {config.name!r}: {root} does not exist: set data.root to the place of its files.")
