"""rANS with a model per layer: its own histogram, or a two-sided Laplace or Gaussian shape with a free zero.

The stream takes close to the zero-order entropy of the codes. A sparse layer needs no index: zero is a symbol.
Tables of frequencies are made by IEEE multiplication alone, so that every machine decodes with the same ones; what
chooses a shape is rounded alike everywhere too (`trainables.arithmetic`).
"""

import math
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainables.arithmetic import exp2, log2, log2_1m, total
from trainables.errors import CorruptFile
from trainables.export.coders.coder import CodedLayer, LayerSpec, OfIntegers, shared
from trainables.export.coders.streams import Source

MAX_COUNT = 65_535
"""The largest uint16."""
MAX_ZERO = 65_504.0
"""The largest float16."""
TINY_DECAY = 1e-12
"""The smallest 1 − r: over 32,767 magnitudes such a shape is flat."""


def entropy_bits(codes: np.ndarray) -> float:
    """Returns n · H of the codes' distribution: no code of single symbols is shorter, its table not counted."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(total(counts * -log2(counts / counts.sum())))


@dataclass(frozen=True)
class Histogram(OfIntegers):
    """A model with the uint16 frequencies of all codes up to the largest magnitude that occurs."""

    kind: int = 1
    family: str = "rans"

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Stores the largest magnitude m as uint16 and, unless m = 0, 2·m + 1 frequencies."""
        codes = weights.astype(np.int32)
        largest = int(np.abs(codes).max(initial=0))
        counts = np.bincount(codes + largest, minlength=2 * largest + 1)
        stored = _uint16(counts)
        model = struct.pack("<H", largest) + (stored.astype("<u2").tobytes() if largest else b"")
        return shared(self.kind, model, codes + largest, counts, stored.astype(np.float64))

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Reads the model, then the symbols."""
        (largest,) = struct.unpack("<H", source.model(2))
        if largest > layer.largest:
            raise CorruptFile(f"packed file: a code of {layer.name} lies outside ±{layer.largest}")
        stored = np.frombuffer(source.model(2 * (2 * largest + 1)) if largest else b"\1\0", "<u2")
        codes: np.ndarray = (source.symbols(stored.astype(np.float64), layer.count) - largest).astype(layer.dtype)
        return codes


@dataclass(frozen=True)
class TwoSided(OfIntegers):
    """A model whose frequencies fall with the magnitude k as r^(k^power): 1 is a Laplace shape, 2 a Gaussian one.

    Zero has a frequency of its own, so that sparse layers fit too. Stored are the frequency of zero relative
    to that of 1, as float16, and 1 − r as float32; r is the maximum-likelihood one.
    """

    kind: int
    power: Literal[1, 2]
    family: str = "rans"

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Fits the shape to the codes."""
        codes = weights.astype(np.int32)
        counts = np.bincount(codes + layer.largest, minlength=2 * layer.largest + 1)
        both = counts[layer.largest + 1 :] + counts[layer.largest - 1 :: -1]
        decay = self._fit(both)
        tail = self._tail(layer.largest, decay)
        zero = 2 * float(total(tail)) * counts[layer.largest] / max(1, both.sum())
        model = struct.pack("<ef", min(zero, MAX_ZERO), decay)
        return shared(self.kind, model, codes + layer.largest, counts, self._table(layer.largest, model))

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Reads the shape, then the symbols."""
        symbols = source.symbols(self._table(layer.largest, source.model(6)), layer.count)
        return (symbols - layer.largest).astype(layer.dtype)

    def _table(self, largest: int, model: bytes) -> np.ndarray:
        """Returns the frequencies of all codes that a model stands for."""
        zero, decay = struct.unpack("<ef", model)
        if not (0 <= zero <= MAX_ZERO and 0 < decay <= 1):
            raise CorruptFile("packed file: the frequencies of a layer have no legal shape")
        tail = self._tail(largest, decay)
        return np.concatenate([tail[::-1], [zero], tail])

    def _tail(self, largest: int, decay: float) -> np.ndarray:
        """Returns frequencies of the magnitudes 1 to largest, relative to that of 1."""
        r = 1.0 - decay
        ratios = np.full(largest - 1, r)
        if self.power == 2:  # r^(k²) / r^((k−1)²) = r^(2k−1)
            ratios = r * np.cumprod(ratios * r)
        return np.cumprod(np.concatenate([[1.0], ratios]))

    def _fit(self, counts: np.ndarray) -> float:
        """Returns the 1 − r whose mean of k^power is the data's: the maximum of an exponential family."""
        # Each magnitude by itself up to about 150, bins of less than a hundredth of their place above.
        edges = np.unique(np.rint(exp2(np.linspace(0, log2(len(counts) + 1), 2_000))).astype(np.int64))
        statistic = ((edges[:-1] + edges[1:] - 1) / 2) ** self.power
        binned = np.add.reduceat(counts, edges[:-1] - 1)
        wanted = total(binned * statistic) / max(1, counts.sum())
        low, high = TINY_DECAY, 1.0
        for _ in range(24):
            middle = math.sqrt(low * high)
            # Above 2^−866: arithmetic with denormal numbers is a hundred times slower.
            tail = np.diff(edges) * exp2(np.maximum(log2_1m(middle) * (statistic - 1), -866))
            falls_too_slowly = total(tail * statistic) > wanted * total(tail)
            low, high = (middle, high) if falls_too_slowly else (low, middle)
        return float(np.float32(high))


def _uint16(counts: np.ndarray) -> np.ndarray:
    """Scales counts down until they fit; what occurs stays above zero."""
    scale = min(1.0, MAX_COUNT / max(1, counts.max(initial=0)))
    return np.where(counts > 0, np.maximum(1, np.rint(counts * scale)), 0).astype(np.uint16)


HISTOGRAM = Histogram()
LAPLACE = TwoSided(kind=2, power=1)
GAUSSIAN = TwoSided(kind=3, power=2)
