"""The three streams in which the weights of all layers lie in a file: models, rANS words, and other content."""

from dataclasses import dataclass

import numpy as np

from trainables.errors import CorruptFile
from trainables.export import rans


class Source:
    """The three streams of a file, read in forward order."""

    def __init__(self, models: bytes, words: bytes, data: bytes) -> None:
        self._models = _Bytes(models)
        self._data = _Bytes(data)
        self._stream = rans.Decoder(words)

    def model(self, size: int) -> bytes:
        """The next bytes of the coders' models."""
        return self._models.take(size)

    def data(self, size: int) -> bytes:
        """The next bytes of the coders' own content."""
        return self._data.take(size)

    def symbols(self, weights: np.ndarray, count: int) -> np.ndarray:
        """The next symbols of the shared stream: indices into `weights`, int32."""
        return self._stream.take(weights, count)

    @property
    def bits_left(self) -> int:
        """What was not read yet."""
        return 8 * (self._models.left + self._data.left) + self._stream.bits_left

    def finish(self) -> None:
        """Everything must have been read.

        Raises:
            CorruptFile: something is left.
        """
        if self._models.left or self._data.left or not self._stream.is_empty():
            raise CorruptFile("packed file: the weights end before their streams do")


@dataclass(frozen=True)
class CodedWeights:
    """The weights of a network as they lie in the file."""

    kinds: tuple[int, ...]
    models: bytes
    words: bytes
    data: bytes

    @property
    def size_bytes(self) -> int:
        """Length of all streams."""
        return len(self.models) + len(self.words) + len(self.data)

    def source(self) -> Source:
        """The streams, from their start."""
        return Source(self.models, self.words, self.data)


class _Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._place

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise CorruptFile("packed file: a stream of weights ends too early")
        self._place += size
        return self._content[self._place - size : self._place]
