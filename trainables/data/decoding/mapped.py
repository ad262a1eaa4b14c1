"""MappedPixels: the images of a set that is larger than memory should hold, read from shards as they are used."""

from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.decoding.shards import read_shard

PART_BYTES = 8 << 20
"""Bytes of images that a pass over all of them holds at a time. Larger: no faster; smaller: more files opened."""


class MappedPixels:
    """Images (N, C, H, W) uint8 that lie in shards on this machine, all of them or some, in any order.

    Indexing with a number, a slice or an array of places reads these images, as from an array. What is pickled are the
    names of the files, so another process of the machine reads the same pages of memory.
    """

    def __init__(self, paths: Sequence[Path], starts: np.ndarray, index: np.ndarray, image: tuple[int, ...]) -> None:
        """Takes shards, the number of the first image of each, the images by number, and the shape of one."""
        self._paths, self._starts, self._index = tuple(paths), starts, index
        self.shape = (len(index), *image)
        self._open: dict[int, np.ndarray] = {}  # files that were read from, by number; parts of a set share them

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """The bytes of all these images in memory."""
        return int(np.prod(self.shape))

    def __getitem__(self, places: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(places, int | np.integer):
            one: np.ndarray = self._read(self._index[[places]], self._open)[0]
            return one
        return self._read(self._index[places], self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def take(self, places: np.ndarray | slice) -> "MappedPixels":
        """Returns the images at these places; nothing is read."""
        part = copy(self)
        part._index = self._index[places]
        part.shape = (len(part._index), *self.shape[1:])
        return part

    def read_into(self, out: np.ndarray) -> None:
        """Reads all images into an array of their shape."""
        self._read(self._index, self._open, out)

    def parts(self) -> Iterator[np.ndarray]:
        """Yields all images in order, some at a time; no file stays open, so that its pages do not count as memory."""
        step = max(1, PART_BYTES // int(np.prod(self.shape[1:])))
        for start in range(0, len(self), step):
            yield self._read(self._index[start : start + step], {})

    def whole(self) -> np.ndarray:
        """Returns all images in memory."""
        found, done = np.empty(self.shape, np.uint8), 0
        for part in self.parts():
            found[done : done + len(part)] = part
            done += len(part)
        return found

    def identity(self) -> bytes:
        """Returns what names these images: the names of the shards, which stand for their sources, and the places."""
        return repr([path.name for path in self._paths]).encode() + self._index.tobytes()

    @property
    def here(self) -> bool:
        """Whether all files are on this machine."""
        return all(path.exists() for path in self._paths)

    def _read(self, numbers: np.ndarray, opened: dict[int, np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        found = np.empty((len(numbers), *self.shape[1:]), np.uint8) if out is None else out
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        inside = numbers - self._starts[shards]
        for place, (shard, number) in enumerate(zip(shards.tolist(), inside.tolist(), strict=True)):
            if shard not in opened:
                opened[shard] = read_shard(self._paths[shard]).pixels
            found[place] = opened[shard][number]  # one channel is repeated where the others have three
        return found
