"""Coders without a model: bit packing of integer codes, and float32 values as they are."""

from dataclasses import dataclass

import numpy as np

from trainables.config import FLOAT_BITS
from trainables.errors import CorruptFile
from trainables.export.coders.bits import pack_bits, packed_bytes, unpack_bits
from trainables.export.coders.coder import CodedLayer, LayerSpec, OfIntegers
from trainables.export.coders.streams import Source


@dataclass(frozen=True)
class BitPacking(OfIntegers):
    """A coder that stores each code plus the largest one in the layer's bits, padded to a byte."""

    kind: int = 0
    family: str = "bits"

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Packs the codes; the size depends on their number alone."""
        codes = (weights.astype(np.int32) + layer.largest) // layer.distance
        return CodedLayer(kind=self.kind, data=pack_bits(codes, layer.bits).tobytes())

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Unpacks the codes and checks their range."""
        packed = np.frombuffer(source.data(packed_bytes(layer.count, layer.bits)), np.uint8)
        codes = unpack_bits(packed, layer.bits, layer.count).astype(np.int32) * layer.distance - layer.largest
        if codes.max(initial=0) > layer.largest:
            raise CorruptFile(f"packed file: a code of {layer.name} lies outside ±{layer.largest}")
        return codes.astype(layer.dtype)


@dataclass(frozen=True)
class Float32:
    """A coder that stores a layer that is not quantized as little-endian float32 values."""

    kind: int = 5
    family: str = "bits"

    def fits(self, layer: LayerSpec) -> bool:
        """Whether the layer is not quantized."""
        return layer.bits == FLOAT_BITS

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Stores four bytes a weight."""
        return CodedLayer(kind=self.kind, data=weights.astype(layer.dtype).tobytes())

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Reads the float32 values back."""
        return np.frombuffer(source.data(4 * layer.count), layer.dtype).copy()


BITS = BitPacking()
FLOAT32 = Float32()
