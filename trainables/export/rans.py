"""The rANS stream that all layers of a file share (Duda, arXiv 1311.2540): constriction's AnsCoder, 32-bit words.

The stream is a stack: layers are encoded last to first, so that they are decoded first to last. Probabilities
have 24 bits; every symbol of an alphabet gets at least 2^−24.
"""

from collections.abc import Sequence

import constriction
import numpy as np

from trainables.arithmetic import log2, total
from trainables.errors import CorruptFile

AnsCoder = constriction.stream.stack.AnsCoder
Categorical = constriction.stream.model.Categorical
GRAINS = 1 << 24


def encode(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Little-endian words of (symbols, weights) pairs in forward order; symbols are indices into weights.

    Weights are relative frequencies: float64, not negative, with a positive sum. An alphabet of one symbol
    leaves nothing to store.
    """
    coder = AnsCoder()
    for symbols, weights in reversed(parts):
        if len(weights) > 1:
            coder.encode_reverse(symbols.astype(np.int32), Categorical(weights, perfect=False))
    words: np.ndarray = coder.get_compressed()
    return words.astype("<u4").tobytes()


def stream_bits(counts: np.ndarray, weights: np.ndarray) -> float:
    """What symbols that occur `counts` times take in the stream."""
    if len(weights) < 2:
        return 0.0
    used = counts > 0
    grains = 1 + weights[used] * ((GRAINS - len(weights)) / float(total(weights)))
    return float(total(counts[used] * -log2(grains / GRAINS)))


class Decoder:
    """Reads a stream from its words."""

    def __init__(self, words: bytes) -> None:
        if len(words) % 4:
            raise CorruptFile("packed file: the rANS stream holds no whole words")
        try:
            self._coder = AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
        except ValueError as err:
            raise CorruptFile("packed file: the rANS stream ends in a zero word") from err

    def take(self, weights: np.ndarray, count: int) -> np.ndarray:
        """The next symbols, int32 in [0, len(weights)).

        Raises:
            CorruptFile: the weights are no distribution.
        """
        if len(weights) < 2:
            return np.zeros(count, np.int32)
        try:
            symbols: np.ndarray = self._coder.decode(Categorical(weights, perfect=False), count)
        except ValueError as err:
            raise CorruptFile("packed file: the frequencies of a layer are no distribution") from err
        return symbols

    @property
    def bits_left(self) -> int:
        """What was not read yet."""
        return int(self._coder.num_valid_bits())

    def is_empty(self) -> bool:
        """Whether all symbols were read."""
        return bool(self._coder.is_empty())
