"""Zstandard over whole codes: one byte each, two above 8 bits, four for float32. It pays where filters repeat."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.errors import CorruptFile
from trainables.export.coders.coder import CodedLayer, LayerSpec
from trainables.export.coders.rans import stream_bits
from trainables.export.coders.streams import Source

LEVEL = 19
"""The highest of the ordinary levels: those above take more memory to decode, those below take less time to pack."""
LARGE, FAST_LEVEL = 1 << 19, 3
"""The codes of a layer from which on the fast level is tried first: the highest one takes a microsecond for each."""


@dataclass(frozen=True)
class Zstd:
    """A coder that stores a layer as one frame; the model is its length as uint32."""

    kind: int = 4
    family: str = "zstd"

    def fits(self, layer: LayerSpec) -> bool:
        """Whether the layer can be stored: any can."""
        return True

    def encode(self, weights: np.ndarray, layer: LayerSpec) -> CodedLayer:
        """Compresses the weights' bytes; those of a large layer in which nothing repeats only at the fast level."""
        content = weights.astype(layer.dtype).tobytes()
        if layer.count < LARGE or layer.dtype.kind != "i":
            frame: bytes = _codec().compress(content, asbytes=True)
        else:
            frame = _codec(FAST_LEVEL).compress(content, asbytes=True)
            counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
            if 8 * len(frame) < stream_bits(counts, counts):
                frame = _codec().compress(content, asbytes=True)
        return CodedLayer(kind=self.kind, model=struct.pack("<I", len(frame)), data=frame)

    def decode(self, layer: LayerSpec, source: Source) -> np.ndarray:
        """Decompresses a frame into exactly as many bytes as the layer has."""
        (length,) = struct.unpack("<I", source.model(4))
        frame = source.data(length)
        size = layer.count * layer.dtype.itemsize
        try:
            content: bytes = _codec().decompress(frame, decompressed_size=size, asbytes=True)
        except (OSError, ValueError) as err:
            raise CorruptFile(f"packed file: the zstd frame of {layer.name} does not hold its weights") from err
        weights = np.frombuffer(content, layer.dtype).copy()
        if layer.dtype.kind == "i" and np.abs(weights.astype(np.int32)).max(initial=0) > layer.largest:
            raise CorruptFile(f"packed file: a code of {layer.name} lies outside ±{layer.largest}")
        return weights


def _codec(level: int = LEVEL) -> Any:
    """Returns the codec, importing pyarrow only where a file is packed or read."""
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=level)


ZSTD = Zstd()
