"""Image folder: a data set as a folder of image files for each class."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from trainables.config import DataConfig
from trainables.data.decoding.encoded import EncodedImages, encoded_files
from trainables.data.sources import Source, from_splits, root_of, split_of
from trainables.errors import ConfigError


def load_image_folder(config: DataConfig) -> Source:
    """Loads JPEG, PNG, WebP, BMP, PPM and TIFF files; each folder below the root is a class, in the order of names.

    Images are in the order of their names, whatever their class: files numbered as those of another set are that set.
    Or the root has folders `train` and `test`, or `train` and `val`, or all three, and each of these has the folders of
    the classes. Without `test`, `val` is the test set. Without any, a share of all images is, drawn by a fixed seed.

    Raises:
        ConfigError: the root or a split is absent, or a class has no images or is in a later split alone.
    """
    root = root_of(config)
    splits: dict[str, Path] = {}
    for folder in _folders(root):
        if not (split := split_of(folder.name)):
            continue
        if split in splits:
            raise ConfigError(f"{splits[split]} and {folder} are both of the split {split}: put their images into one.")
        splits[split] = folder
    if "train" not in splits:
        names = _classes(root)
        return from_splits({"train": _images(root, names, whole=True)}, config, names=names)
    if len(splits) == 1:
        raise ConfigError(f"{root} has a folder train, but none of the name test or val: add one, or move it up.")
    names = _classes(splits["train"])
    parts = {split: _images(folder, names, whole=split == "train") for split, folder in splits.items()}
    return from_splits(parts, config, names=names)


def _folders(place: Path) -> list[Path]:
    """Returns the folders in a folder in the order of their names; a link to a folder is one, a hidden one is none."""
    try:
        with os.scandir(place) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as err:
        raise ConfigError(f"cannot read the folder {place}: {err.strerror}. Set data.root to another one.") from err
    return sorted(found, key=lambda folder: os.fsencode(folder.name))


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(found.name for found in _folders(folder))
    if len(names) < 2:
        raise ConfigError(
            f"{folder} must hold a folder of images for each of at least two classes, but holds {len(names)} "
            "folders: set data.root to the folder above them."
        )
    return names


def _images(folder: Path, names: tuple[str, ...], *, whole: bool) -> EncodedImages:
    """Lists the files of the classes `names` in a folder; classes that training does not know are refused.

    A `whole` folder must have images of each class.
    """
    unknown = [found.name for found in _folders(folder) if found.name not in names]
    if unknown:
        raise ConfigError(f"{folder} has the class {unknown[0]!r}, which the training images do not have: remove it.")
    listed = sorted((key, label, file) for label, name in enumerate(names) for key, file in _files(folder / name))
    empty = sorted(set(range(len(names))) - {label for _, label, _ in listed}) if whole else []
    if empty and listed:
        raise ConfigError(f"{folder / names[empty[0]]} has no image files, so the class has none: remove the folder.")
    if not listed:
        raise ConfigError(f"{folder} has no image files ({', '.join(IMG_EXTENSIONS)}) in its folders of classes.")
    labels, files = np.array([label for _, label, _ in listed], np.int64), [file for _, _, file in listed]
    return encoded_files(labels, files)


def _files(folder: Path) -> Iterator[tuple[bytes, str]]:
    """Yields the image files in a folder and below it, each after its path in that folder; hidden ones are left out."""
    for place, folders, names in os.walk(folder):  # links to folders are not followed below a class: they may circle
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."):
                path = os.path.join(place, name)
                yield os.fsencode(os.path.relpath(path, folder)), path
