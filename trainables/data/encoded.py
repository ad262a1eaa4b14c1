"""EncodedImages: labeled images that lie encoded somewhere, decoded one at a time."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.decode import Undecodable, decoding, pixels
from trainables.data.images import ImageSet
from trainables.data.resize import fitted
from trainables.errors import ConfigError

logger = logging.getLogger(__name__)

NAMED = 3
"""As many files are named where some cannot be read."""


@dataclass(frozen=True)
class EncodedImages:
    """Labels (N,) int64, and for each image the place of it: what `read` takes, and `name` says in messages.

    `read` returns a path, the bytes of a file, or an image that Pillow has opened.
    """

    labels: np.ndarray
    places: np.ndarray
    read: Callable[[int], Path | bytes | Image.Image]
    name: Callable[[int], str]

    def take(self, index: np.ndarray) -> "EncodedImages":
        """Returns the images at these places, with their labels."""
        return replace(self, labels=self.labels[index], places=self.places[index])

    def __len__(self) -> int:
        return len(self.labels)

    def each(
        self, size: tuple[int, int], channels: int | None = None, *, crop: float = 1.0
    ) -> Iterator[np.ndarray | Undecodable]:
        """Yields each image decoded, (C, *size) uint8 as by `pixels` and `fitted`, or why it cannot be."""
        for place in self.places.tolist():
            try:
                with decoding():
                    found = fitted(pixels(self.read(place), channels)[None], size, crop=crop)[0]
                yield found
            except Undecodable as err:
                yield Undecodable(f"{self.name(place)}: {err}")

    def decoded(
        self, size: tuple[int, int], channels: int | None = None, *, crop: float = 1.0, skip: bool = False
    ) -> ImageSet:
        """Returns all images in memory; without `channels` they have one if none of them has colors, else three.

        With `skip`, images that cannot be decoded are left out, and a line of the log names them.

        Raises:
            ConfigError: some cannot be decoded, or none can; it counts them and names the first.
        """
        images = np.empty((len(self), channels or 1, *size), np.uint8)
        good, failed = np.ones(len(self), bool), []
        for place, found in enumerate(self.each(size, channels, crop=crop)):
            if isinstance(found, Undecodable):
                failed.append(found)
                good[place] = False
                continue
            if len(found) > images.shape[1]:  # the first one with colors
                images = np.repeat(images, len(found), axis=1)
            images[place] = found
        if not failed:
            return ImageSet(images, self.labels)
        if not skip or not good.any():
            raise ConfigError(f"{_named(failed, len(self))}: mend or remove them, or set data.on_error to skip.")
        logger.warning("%s and are left out.", _named(failed, len(self)))
        return ImageSet(images, self.labels).take(np.flatnonzero(good))


def _named(failed: list[Undecodable], count: int) -> str:
    """Says how many files cannot be decoded, and names the first; control characters in names are escaped."""
    named = "; ".join(ascii(str(err))[1:-1] for err in failed[:NAMED])
    more = f"; and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
    return f"{len(failed):,} of {count:,} images cannot be decoded ({named}{more})"
