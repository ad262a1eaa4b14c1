"""The rANS stream that all layers of a file share (Duda, arXiv 1311.2540): constriction's AnsCoder, 32-bit words.

The stream is a stack: layers are encoded last to first, so that they are decoded first to last. Probabilities
have 24 bits; every symbol of an alphabet gets at least 2^−24.
"""

from collections.abc import Sequence

import constriction
import numpy as np

from trainables.arithmetic import log2, total

AnsCoder = constriction.stream.stack.AnsCoder
Categorical = constriction.stream.model.Categorical
GRAINS = 1 << 24
"""The parts that probabilities consist of: constriction's Categorical has 24 bits."""


def encode(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Returns little-endian words of (symbols, weights) pairs in forward order; symbols are indices into weights.

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
    """Returns the bits that symbols that occur `counts` times take in the stream."""
    if len(weights) < 2:
        return 0.0
    used = counts > 0
    grains = 1 + weights[used] * ((GRAINS - len(weights)) / float(total(weights)))
    return float(total(counts[used] * -log2(grains / GRAINS)))
