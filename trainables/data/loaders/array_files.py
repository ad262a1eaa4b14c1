"""Array files: a data set as NumPy's .npz or .npy files."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.config import DataConfig
from trainables.data.decoding.encoded import EncodedImages, file_stamp
from trainables.data.decoding.levels import levels
from trainables.data.images import ImageSet
from trainables.data.labels import class_labels
from trainables.data.sources import SPLITS, Samples, Source, from_splits, root_of, split_of
from trainables.errors import ConfigError

IMAGES = ("images", "x", "data")
LABELS = ("labels", "y", "label")
CHANNELS = (1, 3)


def load_arrays(config: DataConfig) -> Source:
    """Loads images and labels from arrays; the root is one .npz file, or a folder of .npz or .npy files.

    An array is called `images` or `x`, `labels` or `y`, beside the name of its split: `train_images`, `x_test`, or
    `images` in `train.npz`. Without splits, a share of all images is the test set, drawn by a fixed seed. Images are
    uint8 or uint16, of shape (N, H, W), (N, H, W, C) or (N, C, H, W), with 1 or 3 channels; of 16 bits the upper ones
    count. Labels are integers or text, (N,) or (N, 1). Pickled objects are not read.

    Raises:
        ConfigError: an array is absent, damaged, or no images or classes.
    """
    root = root_of(config)
    arrays = _arrays(root)
    found = {split: pair for split in (*SPLITS, "") if (pair := _pair(arrays, split)) is not None}
    whole = "train" not in found
    if whole and "" not in found:
        shown = ", ".join(sorted(arrays)) or "no arrays"
        raise ConfigError(f"{root} must hold arrays train_images and train_labels, or images and labels; has {shown}.")
    used = {"train": found[""]} if whole else {split: pair for split, pair in found.items() if split}
    labels, names = class_labels({split: pair[1] for split, pair in used.items()}, str(root))
    parts = {split: _part(pair[0], labels[split], f"{root}: {split} images") for split, pair in used.items()}
    return from_splits(parts, config, names=names)


def _arrays(root: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file or a folder, by names in lower case; those of train.npz begin with `train_`."""
    files = [root] if root.is_file() else sorted(root.glob("*.np[yz]"))
    found: dict[str, np.ndarray] = {}
    for file in files:
        try:
            if file.suffix == ".npy":
                found[file.stem.lower()] = np.lib.format.open_memmap(file, mode="r")  # it refuses pickled objects
                continue
            split = split_of(file.stem)
            with file.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as content:
                for name in content.files:
                    found[f"{split}_{name.lower()}" if split else name.lower()] = content[name]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as err:
            reason = " ".join(str(err).split())
            raise ConfigError(
                f"cannot read {file}: {reason}. Save it again with numpy.savez, as plain arrays."
            ) from err
    return found


def _pair(arrays: Mapping[str, np.ndarray], split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds the images and the labels of a split; those without a split are called by their words alone."""
    images, labels = (
        [arrays[name] for word in words for name in _spellings(word, split) if name in arrays]
        for words in (IMAGES, LABELS)
    )
    return (images[0], labels[0]) if images and labels else None


def _spellings(word: str, split: str) -> tuple[str, ...]:
    return (f"{split}_{word}", f"{word}_{split}") if split else (word,)


def _part(images: np.ndarray, labels: np.ndarray, what: str) -> Samples:
    """Returns images as (N, C, H, W) uint8 with their labels; those of an .npy file one at a time, as they are used."""
    if not images.size:
        raise ConfigError(f"{what} have the shape {images.shape}, which holds none: save them again.")
    if images.ndim and len(images) != len(labels):
        raise ConfigError(f"{what} are {len(images):,}, but their labels {len(labels):,}: save one label for each.")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in CHANNELS:
        raise ConfigError(
            f"{what} have the shape {images.shape}, but must have (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 "
            "channels."
        )
    if not isinstance(images, np.memmap) or images.dtype not in (np.uint8, np.uint16):
        return ImageSet(levels(images, what), labels)
    stamp = file_stamp(Path(str(images.filename)))

    def read(place: int) -> Image.Image:
        image = levels(images[place : place + 1], what)[0]
        return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))

    places = np.arange(len(images))
    return EncodedImages(
        labels, places, read, lambda place: f"{what}, number {place}", lambda place: f"{place} {stamp}"
    )
