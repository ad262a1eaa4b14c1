"""EncodedImages: labeled images that lie encoded somewhere, decoded one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.decode import Undecodable, decoding, pixels
from trainables.data.images import ImageSet
from trainables.data.resize import fitted
from trainables.errors import ConfigError

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

    def each(self, size: tuple[int, int], channels: int | None = None) -> Iterator[np.ndarray | Undecodable]:
        """Yields each image decoded, (C, *size) uint8 as by `pixels`, or why it cannot be."""
        for place in self.places.tolist():
            try:
                with decoding():
                    found = fitted(pixels(self.read(place), channels)[None], size)[0]
                yield found
            except Undecodable as err:
                yield Undecodable(f"{self.name(place)}: {err}")

    def decoded(self, size: tuple[int, int], channels: int | None = None) -> ImageSet:
        """Returns all images in memory; without `channels` they have one if none of them has colors, else three.

        Raises:
            ConfigError: some cannot be decoded; it counts them and names the first.
        """
        images = np.empty((len(self), channels or 1, *size), np.uint8)
        failed = []
        for place, found in enumerate(self.each(size, channels)):
            if isinstance(found, Undecodable):
                failed.append(found)
                continue
            if len(found) > images.shape[1]:  # the first one with colors
                images = np.repeat(images, len(found), axis=1)
            images[place] = found
        if failed:
            raise ConfigError(_refusal(failed, len(self)))
        return ImageSet(images, self.labels)


def _refusal(failed: list[Undecodable], count: int) -> str:
    named = "; ".join(ascii(str(err))[1:-1] for err in failed[:NAMED])
    more = f"; and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
    return f"{len(failed):,} of {count:,} images cannot be decoded ({named}{more}): mend them or remove them."
