"""inspect_file: where the bytes of a packed file go, and how close its weights come to their entropy."""

import torch

from trainables.config import FLOAT_BITS, Architecture, Frozen
from trainables.export.coders import coder_names
from trainables.export.entropy import entropy_bits
from trainables.export.packed import PackedModel, size_breakdown, unpack
from trainables.models.model import fp32_bytes


class LayerReport(Frozen):
    """The weights of one layer in the file; `entropy_bytes` is n · H of its codes, absent for float32 weights."""

    name: str
    shape: tuple[int, ...]
    bits: int
    coder: str
    weights: int
    nonzero: int
    coded_bytes: float
    bits_per_weight: float
    entropy_bytes: float | None


class FileReport(Frozen):
    """A whole file; `breakdown` sums to `size_bytes`, and `ratio_to_entropy` leaves float32 weights out."""

    architecture: Architecture
    size_bytes: int
    breakdown: dict[str, int]
    weights: int
    nonzero_share: float
    bits_per_weight: float
    entropy_bytes: float
    ratio_to_entropy: float | None
    fp32_bytes: int
    compression_ratio: float
    layers: tuple[LayerReport, ...]


def inspect_file(content: bytes) -> FileReport:
    """Decodes a packed file and counts.

    Raises:
        CorruptFile: as in `unpack`.
    """
    packed, breakdown = unpack(content), size_breakdown(content)
    layers = _layers(packed)
    weights = sum(layer.weights for layer in layers)
    coded = breakdown["codes"] + breakdown["models"]
    entropy = sum(layer.entropy_bytes or 0.0 for layer in layers)
    quantized = coded - sum(layer.coded_bytes for layer in layers if layer.entropy_bytes is None)
    with torch.device("meta"):
        baseline = fp32_bytes(packed.header.architecture)
    return FileReport(
        architecture=packed.header.architecture,
        size_bytes=len(content),
        breakdown=breakdown,
        weights=weights,
        nonzero_share=sum(layer.nonzero for layer in layers) / weights,
        bits_per_weight=8 * coded / weights,
        entropy_bytes=entropy,
        ratio_to_entropy=quantized / entropy if entropy else None,
        fp32_bytes=baseline,
        compression_ratio=baseline / len(content),
        layers=layers,
    )


def _layers(packed: PackedModel) -> tuple[LayerReport, ...]:
    names = coder_names()
    reports = []
    for layer, kind, bits, codes in zip(packed.layers, packed.kinds, packed.coded_bits, packed.codes, strict=True):
        reports.append(
            LayerReport(
                name=layer.name,
                shape=layer.shape,
                bits=layer.bits,
                coder=names[kind],
                weights=layer.count,
                nonzero=int((codes != 0).sum()),
                coded_bytes=bits / 8,
                bits_per_weight=bits / layer.count,
                entropy_bytes=None if layer.bits == FLOAT_BITS else entropy_bits(codes) / 8,
            )
        )
    return tuple(reports)
