"""EncodedImages: labeled images that lie encoded somewhere, decoded one at a time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.decoding.decode import Undecodable, channels_of, decoding, pixels, size_of, strict
from trainables.data.decoding.resize import fitted

Encoded = Path | bytes | Image.Image
"""A path, the bytes of a file, or an image that Pillow has opened."""


@dataclass(frozen=True)
class EncodedImages:
    """Labels (N,) int64, and for each image the place of it: what `read` takes, and `name` says in messages.

    `stamp` returns a text that changes when the image at a place may have changed; without it, nothing that was made
    of these images is kept.
    """

    labels: np.ndarray
    places: np.ndarray
    read: Callable[[int], Encoded]
    name: Callable[[int], str]
    stamp: Callable[[int], str] | None = None

    def take(self, index: np.ndarray | slice) -> "EncodedImages":
        """Returns the images at these places, with their labels."""
        return replace(self, labels=self.labels[index], places=self.places[index])

    def __len__(self) -> int:
        return len(self.labels)

    def each(self) -> Iterator[Encoded | Undecodable]:
        """Yields each image as it lies there, or why it cannot be read."""
        for place in self.places.tolist():
            try:
                with decoding():
                    yield self.read(place)
            except Undecodable as err:
                yield err

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yields the width and height of each image that can be opened, as it lies there; none is decoded."""
        for file in self.each():
            if not isinstance(file, Undecodable):
                with contextlib.suppress(Undecodable), decoding():
                    yield size_of(file)

    def channels(self) -> int:
        """Returns the channels that all these images have in common, decoded: 3 if one has colors, else 1.

        No pixels are read, and of the files only those up to the first one with colors.
        """
        with strict():
            return 3 if any(map(_has_colors, self.each())) else 1


def _has_colors(file: Encoded | Undecodable) -> bool:
    try:
        with decoding():
            return not isinstance(file, Undecodable) and channels_of(file) > 1
    except Undecodable:
        return False


@dataclass(frozen=True)
class Form:
    """What images become when they are decoded: a height and width, channels, and the share that a crop keeps.

    Without `channels`, an image without colors has one and others have three.
    """

    size: tuple[int, int]
    channels: int | None = None
    crop: float = 1.0

    def of(self, file: Encoded | Undecodable) -> np.ndarray | Undecodable:
        """Returns an image decoded, (C, *size) uint8 as by `pixels` and `fitted`, or why it cannot be."""
        if isinstance(file, Undecodable):
            return file
        try:
            with decoding():
                found: np.ndarray = fitted(pixels(file, self.channels)[None], self.size, crop=self.crop)[0]
                return found
        except Undecodable as err:
            return err


def encoded_files(labels: np.ndarray, files: Sequence[str]) -> EncodedImages:
    """Returns images that are a file each, with their labels (N,) int64; as text, a million paths take 0.1 GB."""
    return EncodedImages(
        labels,
        np.arange(len(files)),
        lambda place: Path(files[place]),
        files.__getitem__,
        lambda place: file_stamp(Path(files[place])),
    )


def file_stamp(path: Path) -> str:
    """Returns a text that changes when a file is replaced, written to or made readable: its name, size and status time.

    The status time (ctime) cannot be set back, as a copy that keeps the time of modification does.
    """
    about = path.stat()
    return f"{path.absolute()} {about.st_size} {about.st_ctime_ns}"
