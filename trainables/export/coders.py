"""Coder: one way to store the weights of a layer; the packer tries all of them and keeps the smallest.

A coder turns a layer into a model (bytes that the decoder needs first) and its content: bytes of its own, or
symbols for the rANS stream that all layers of a file share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from trainables.config import CODERS, FLOAT_BITS
from trainables.errors import CorruptFile
from trainables.export import rans
from trainables.export.streams import CodedWeights, Source

Choice = Literal["auto", "rans", "zstd", "bits"]
"""`auto` lets all coders compete; a family name those that belong to it, and all where none of them can."""


@dataclass(frozen=True)
class LayerSpec:
    """What is known of a layer before its weights are read."""

    name: str
    shape: tuple[int, ...]
    bits: int

    @property
    def count(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def largest(self) -> int:
        """Codes lie in [−largest, largest]."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded weights: integer codes, or float32 where nothing is quantized. Little-endian."""
        if self.bits == FLOAT_BITS:
            return np.dtype("<f4")
        return np.dtype("<i1" if self.bits <= 8 else "<i2")


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
        """What the layer adds to a file."""
        return 8 * (len(self.model) + len(self.data)) + self.stream_bits


class Coder(Protocol):
    """One way to store the weights of a layer; a new one is a file, a line in `CODERS` and a test.

    `kind` is its number in the file and never changes its meaning; `family` is the choice in a configuration
    that it belongs to. Encoding must depend on the weights alone, and decoding refuse what no encoder writes.
    """

    @property
    def kind(self) -> int:
        """Below 128 for coders of this package."""

    @property
    def family(self) -> str:
        """A value of `Choice`, or a name of its own."""

    def fits(self, layer: LayerSpec) -> bool:
        """Whether layers of this many bits can be stored."""

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Stores flat weights of the layer's dtype."""

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """The inverse: flat weights of the layer's dtype.

        Raises:
            CorruptFile: the source does not hold such a layer.
        """


def coders() -> dict[int, Coder]:
    """All registered coders by kind."""
    found: list[Coder] = [CODERS[name] for name in CODERS.names()]
    return {coder.kind: coder for coder in sorted(found, key=lambda coder: coder.kind)}


def coder_names() -> dict[int, str]:
    """Names in the registry by kind."""
    return {CODERS[name].kind: name for name in CODERS.names()}


def encode(layers: Sequence[LayerSpec], weights: Sequence[np.ndarray], *, choice: Choice = "auto") -> CodedWeights:
    """Stores the weights of all layers; with `auto` in no more bytes than any single family takes."""
    families = _families(choice)
    plans: dict[str, list[CodedLayer]] = {family: [] for family in families}
    for layer, values in zip(layers, weights, strict=True):
        best = _best_by_family(layer, values.astype(layer.dtype, copy=False).reshape(-1), families)
        for family, coded in best.items():
            plans[family].append(coded)
    return min((assembled(plan) for plan in plans.values()), key=lambda coded: coded.size_bytes)


def coded_bits(layer: LayerSpec, weights: np.ndarray, *, choice: Choice = "rans") -> float:
    """What a layer adds to a file, in bits; fractions count, since layers share one stream."""
    best = _best_by_family(layer, weights.astype(layer.dtype, copy=False).reshape(-1), (choice,))
    return best[choice].size_bits


def decode(layers: Sequence[LayerSpec], coded: CodedWeights) -> tuple[list[np.ndarray], list[float]]:
    """The weights in the layers' shapes, and the bits that each layer takes in the file.

    Raises:
        CorruptFile: the streams do not hold such layers.
    """
    known = coders()
    source = coded.source()
    weights, bits = [], []
    for layer, kind in zip(layers, coded.kinds, strict=True):
        if kind not in known or not known[kind].fits(layer):
            raise CorruptFile(f"packed file: {layer.name} has {layer.bits} bits, which no coder of kind {kind} stores")
        before = source.bits_left
        values = known[kind].decode(layer, source)
        bits.append(float(before - source.bits_left))
        weights.append(values.reshape(layer.shape))
    source.finish()
    return weights, bits


def assembled(plan: Sequence[CodedLayer]) -> CodedWeights:
    """The streams of layers in forward order."""
    return CodedWeights(
        kinds=tuple(layer.kind for layer in plan),
        models=b"".join(layer.model for layer in plan),
        words=rans.encode([(c.symbols, c.weights) for c in plan if c.symbols is not None and c.weights is not None]),
        data=b"".join(layer.data for layer in plan),
    )


def _families(choice: Choice) -> tuple[str, ...]:
    """`auto` first, so that it wins ties."""
    known = {coder.family for coder in coders().values()}
    return ("auto", *sorted(known)) if choice == "auto" else (choice,)


def _best_by_family(layer: LayerSpec, values: np.ndarray, families: Sequence[str]) -> dict[str, CodedLayer]:
    """The smallest of each family, the lower kind among equals."""
    able = [coder for coder in coders().values() if coder.fits(layer)]
    chosen = {family: [c for c in able if family in ("auto", c.family)] or able for family in families}
    needed = {coder.kind for members in chosen.values() for coder in members}
    coded: Mapping[int, CodedLayer] = {c.kind: c.encode(values, layer) for c in able if c.kind in needed}
    return {
        family: min((coded[c.kind] for c in members), key=lambda candidate: candidate.size_bits)
        for family, members in chosen.items()
    }
