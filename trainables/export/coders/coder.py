"""The ways to store the weights of a layer; the packer tries all of them and keeps the smallest.

A coder turns a layer into a model (bytes that the decoder needs first) and its content: bytes of its own, or
symbols for the rANS stream that all layers of a file share.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from trainables.config import CODERS, FLOAT_BITS
from trainables.errors import CorruptFile
from trainables.export.coders import rans
from trainables.export.coders.streams import CodedWeights, Source

Choice = Literal["auto", "rans", "zstd", "bits"]
"""`auto` lets all coders compete; a family name those that belong to it, and all where none of them can."""


@dataclass(frozen=True)
class LayerSpec:
    """A layer as it is known before its weights are read."""

    name: str
    shape: tuple[int, ...]
    bits: int

    @property
    def count(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def largest(self) -> int:
        """The largest code; codes lie in [−largest, largest]."""
        return max(1, int(2 ** (self.bits - 1)) - 1)

    @property
    def distance(self) -> int:
        """The distance between codes: 1, or 2 where a bit is a sign and the codes are −1 and 1."""
        return 2 if self.bits == 1 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian type of the decoded weights: integer codes, or float32 where nothing is quantized."""
        return np.dtype("<f4" if self.bits == FLOAT_BITS else "<i1" if self.bits <= 8 else "<i2")


@dataclass(frozen=True)
class CodedLayer:
    """A layer as one coder leaves it; `stream_bits` is what its symbols take in the shared stream."""

    kind: int
    model: bytes = b""
    data: bytes = b""
    symbols: np.ndarray | None = None
    weights: np.ndarray | None = None
    stream_bits: float = 0.0

    @property
    def size_bits(self) -> float:
        """The bits that the layer adds to a file."""
        return 8 * (len(self.model) + len(self.data)) + self.stream_bits


def shared(kind: int, model: bytes, symbols: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> CodedLayer:
    """Returns a layer of the shared stream: its symbols, how often each occurs, and the frequencies of the model."""
    return CodedLayer(kind, model, symbols=symbols, weights=weights, stream_bits=rans.stream_bits(counts, weights))


class Coder(Protocol):
    """One way to store the weights of a layer; a new one is a file, a line in `CODERS` and a test.

    `kind` is its number in the file and never changes its meaning; `family` is the choice in a configuration
    that it belongs to. Encoding must depend on the weights alone, and decoding refuse what no encoder writes.
    """

    @property
    def kind(self) -> int:
        """The number of the coder in a file; below 128 for coders of this package."""

    @property
    def family(self) -> str:
        """The choice that the coder belongs to: a value of `Choice`, or a name of its own."""

    def fits(self, layer: LayerSpec) -> bool:
        """Whether layers of this many bits can be stored."""

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Stores flat weights of the layer's dtype."""

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Reads back flat weights of the layer's dtype, or raises CorruptFile: the source holds no such layer."""


class OfIntegers:
    """What coders of integer codes share: each stores codes of any width, and no float32 weights."""

    def fits(self, layer: LayerSpec) -> bool:
        """Whether the layer has integer codes."""
        return layer.bits < FLOAT_BITS


def coders() -> dict[int, Coder]:
    """Returns all registered coders by kind, in rising order."""
    return {kind: CODERS[name] for kind, name in sorted(coder_names().items())}


def coder_names() -> dict[int, str]:
    """Returns the coders' names in the registry by kind."""
    return {CODERS[name].kind: name for name in CODERS.names()}


def encode(layers: Sequence[LayerSpec], weights: Sequence[np.ndarray], *, choice: Choice = "auto") -> CodedWeights:
    """Stores the weights of all layers; with `auto` in no more bytes than any single family takes."""
    known = {coder.family for coder in coders().values()}
    families = ("auto", *sorted(known)) if choice == "auto" else (choice,)  # `auto` comes first, so that it wins ties
    plans: dict[str, list[CodedLayer]] = {family: [] for family in families}
    for layer, values in zip(layers, weights, strict=True):
        for family, coded in _best_by_family(layer, values, families).items():
            plans[family].append(coded)
    return min((assembled(plan) for plan in plans.values()), key=lambda coded: coded.size_bytes)


def coded_bits(layer: LayerSpec, weights: np.ndarray, *, choice: Choice = "rans") -> float:
    """Returns what a layer adds to a file, in bits; fractions count, since layers share one stream."""
    return _best_by_family(layer, weights, (choice,))[choice].size_bits


def decode(layers: Sequence[LayerSpec], coded: CodedWeights) -> tuple[list[np.ndarray], list[float]]:
    """Returns the weights in the layers' shapes, and the bits that each layer takes in the file.

    Raises:
        CorruptFile: the streams do not hold such layers.
    """
    known = coders()
    source, weights, bits = coded.source(), [], []
    for layer, kind in zip(layers, coded.kinds, strict=True):
        if kind not in known or not known[kind].fits(layer):
            raise CorruptFile(f"packed file: {layer.name} has {layer.bits} bits, which no coder of kind {kind} stores")
        before = source.bits_left
        values = known[kind].decode(layer, source)
        if layer.bits == 1 and not values.all():
            raise CorruptFile(f"packed file: a sign of {layer.name} is zero")
        bits.append(float(before - source.bits_left))
        weights.append(values.reshape(layer.shape))
    source.finish()
    return weights, bits


def assembled(plan: Sequence[CodedLayer]) -> CodedWeights:
    """Joins layers in forward order to the streams of a file."""
    return CodedWeights(
        kinds=tuple(layer.kind for layer in plan),
        models=b"".join(layer.model for layer in plan),
        words=rans.encode([(c.symbols, c.weights) for c in plan if c.symbols is not None and c.weights is not None]),
        data=b"".join(layer.data for layer in plan),
    )


def _best_by_family(layer: LayerSpec, values: np.ndarray, families: Sequence[str]) -> dict[str, CodedLayer]:
    """Returns a layer as the smallest coder of each family leaves it, that of the lower kind among equals."""
    values = values.astype(layer.dtype, copy=False).reshape(-1)
    able = [coder for coder in coders().values() if coder.fits(layer)]
    chosen = {family: [c for c in able if family in ("auto", c.family)] or able for family in families}
    needed = {coder.kind: coder for members in chosen.values() for coder in members}
    coded = {kind: coder.encode(values, layer) for kind, coder in needed.items()}
    size = operator.attrgetter("size_bits")
    return {family: min((coded[c.kind] for c in members), key=size) for family, members in chosen.items()}
