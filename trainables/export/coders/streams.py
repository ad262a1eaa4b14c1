"""The three streams in which the weights of all layers lie in a file: models, rANS words, and other content."""

import io
from dataclasses import dataclass

import numpy as np

from trainables.errors import CorruptFile
from trainables.export.coders.rans import AnsCoder, Categorical


class Source:
    """The three streams of a file, read in forward order."""

    def __init__(self, models: bytes, words: bytes, data: bytes) -> None:
        self._models, self._data = io.BytesIO(models), io.BytesIO(data)
        if len(words) % 4:
            raise CorruptFile("packed file: the rANS stream holds no whole words")
        try:
            self._stream = AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
        except ValueError as err:
            raise CorruptFile("packed file: the rANS stream ends in a zero word") from err

    def model(self, size: int) -> bytes:
        """Reads the next bytes of the coders' models."""
        return _taken(self._models, size)

    def data(self, size: int) -> bytes:
        """Reads the next bytes of the coders' own content."""
        return _taken(self._data, size)

    def symbols(self, weights: np.ndarray, count: int) -> np.ndarray:
        """Reads the next symbols of the shared stream, int32 in [0, len(weights)); the weights are a distribution."""
        if len(weights) < 2:
            return np.zeros(count, np.int32)
        try:
            symbols: np.ndarray = self._stream.decode(Categorical(weights, perfect=False), count)
        except ValueError as err:
            raise CorruptFile("packed file: the frequencies of a layer are no distribution") from err
        return symbols

    @property
    def bits_left(self) -> int:
        """The bits that were not read yet."""
        return 8 * (_left(self._models) + _left(self._data)) + int(self._stream.num_valid_bits())

    def finish(self) -> None:
        """Refuses, as CorruptFile, streams of which something is left."""
        if _left(self._models) or _left(self._data) or not self._stream.is_empty():
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
        """The length of all streams."""
        return len(self.models) + len(self.words) + len(self.data)

    def source(self) -> Source:
        """Returns the streams to be read from their start."""
        return Source(self.models, self.words, self.data)


def _left(stream: io.BytesIO) -> int:
    """Returns the number of bytes that were not read yet."""
    return stream.getbuffer().nbytes - stream.tell()


def _taken(stream: io.BytesIO, size: int) -> bytes:
    """Reads so many bytes, and refuses a stream that has fewer."""
    if size > _left(stream):
        raise CorruptFile("packed file: a stream of weights ends too early")
    return stream.read(size)
