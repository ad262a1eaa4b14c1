"""rANS with a smooth symmetric model: frequencies of the magnitudes, linear between a few stored knots.

Any shape costs few bytes: what is left of a layer after magnitude pruning has a hole around zero that no
Laplace or Gaussian shape has, and a histogram of all its codes weighs more than it saves.
"""

from dataclasses import dataclass

import numpy as np

from trainables.arithmetic import log2
from trainables.export.coders.coder import CodedLayer, LayerSpec, OfIntegers, shared
from trainables.export.coders.streams import Source

PER_OCTAVE = 10
"""Levels in an octave of frequency: logarithms are stored within 3.5 %, and 255 levels span 25 octaves."""


@dataclass(frozen=True)
class Smooth(OfIntegers):
    """A model with one byte per knot: 0 for a frequency of 0, else 1 + the logarithm of the frequency."""

    kind: int = 6
    family: str = "rans"

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Stores the mean frequency around each knot."""
        codes = weights.astype(np.int32)
        counts = np.bincount(codes + layer.largest, minlength=2 * layer.largest + 1)
        both = counts[layer.largest :] + counts[layer.largest :: -1]
        levels = _levels(_at_knots(both / 2, _knots(layer.largest)))
        return shared(self.kind, levels.tobytes(), codes + layer.largest, counts, _table(levels, layer.largest))

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Reads the levels, then the symbols."""
        levels = np.frombuffer(source.model(len(_knots(layer.largest))), np.uint8)
        symbols = source.symbols(_table(levels, layer.largest), layer.count)
        return (symbols - layer.largest).astype(layer.dtype)


def _knots(largest: int) -> np.ndarray:
    """Returns the knots: 0 to 8, four per octave above, and the last two magnitudes, where clipping piles codes up."""
    steps = [(4 + quarter) << octave for octave in range(largest.bit_length()) for quarter in range(4)]
    inner = [k for k in (0, 1, 2, 3, *steps) if k < largest - 1]
    return np.array([*inner, *range(max(0, largest - 1), largest + 1)], np.int64)


def _at_knots(frequencies: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Returns the mean frequency around each knot, weighted by a hat that reaches to its neighbors."""
    magnitudes = np.arange(len(frequencies))
    place = np.searchsorted(knots, magnitudes, side="right") - 1
    right = np.minimum(place + 1, len(knots) - 1)
    share = (magnitudes - knots[place]) / np.maximum(1, knots[right] - knots[place])
    sums, mass = np.zeros(len(knots)), np.zeros(len(knots))
    for index, hat in ((place, 1 - share), (right, share)):
        np.add.at(sums, index, hat * frequencies)
        np.add.at(mass, index, hat)
    return sums / mass


def _levels(frequencies: np.ndarray) -> np.ndarray:
    """Returns logarithms of frequencies as bytes; the largest frequency gets the largest level."""
    used = frequencies > 0
    levels = np.zeros(len(frequencies), np.uint8)
    below = log2(frequencies[used] / frequencies.max(initial=0)) * PER_OCTAVE
    levels[used] = np.maximum(1, 255 + np.rint(below))
    return levels


def _table(levels: np.ndarray, largest: int) -> np.ndarray:
    """Returns the frequencies of all codes, by operations that every machine rounds alike."""
    tenths = np.array([round(2 ** (i / PER_OCTAVE) * 2**16) for i in range(PER_OCTAVE)], np.float64)
    octave, tenth = np.divmod(np.maximum(levels, 1).astype(np.int64) - 1, PER_OCTAVE)
    at_knots = np.where(levels > 0, np.ldexp(tenths[tenth], octave), 0.0)
    # Not np.interp: compilers for some processors would round its product and sum once instead of twice.
    knots, magnitudes = _knots(largest), np.arange(largest + 1)
    place = np.searchsorted(knots[1:-1], magnitudes, side="right")
    slopes = np.diff(at_knots) / np.diff(knots)
    half = slopes[place] * (magnitudes - knots[place]) + at_knots[place]
    half[knots] = at_knots
    return np.concatenate([half[:0:-1], half])


SMOOTH = Smooth()
