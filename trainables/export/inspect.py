"""A report on a packed file: where its bytes go, how near its weights are to their entropy, what a pass costs."""

from collections.abc import Iterator

from trainables.config import FLOAT_BITS, Architecture, Frozen
from trainables.costs.activation_memory import ActivationMemory, Counted, activation_memory, counted
from trainables.errors import ConfigError
from trainables.export.coders.coder import coder_names
from trainables.export.coders.entropy import entropy_bits
from trainables.export.header import skeleton
from trainables.export.inspect_formulas import INDEX_BITS, FormulaReport, formula_reports
from trainables.export.packed import PackedModel, size_breakdown, unpack
from trainables.models.model import unpruned
from trainables.models.units import count_parameters, units


class LayerReport(Frozen):
    """A layer's weights in the file, and its work on one image.

    `entropy_bytes` is n · H of its codes, absent for float32 weights. `a_bits` are those of its input, and
    `activation_bytes` its output's, after batch norm, activation, quantizer and residual sum.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    coder: str
    weights: int
    nonzero: int
    coded_bytes: float
    bits_per_weight: float
    entropy_bytes: float | None
    a_bits: int
    macs: int
    bops: int
    activation_bytes: int


class FileReport(Frozen):
    """A whole file in numbers, beside the unpruned network in float32.

    `breakdown` sums to `size_bytes`, and `ratio_to_entropy` leaves float32 weights out. Three ratios, each of fp32
    bytes of the unpruned network: `compression_ratio` of all parameters to the file, `weight_ratio` of the weights of
    layers to what codes and models take in the file, `activation_ratio` of all activations to these (`buffers`).
    `macs` and `bops` are of one image, `activations` of a batch.
    """

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
    weight_fp32_bytes: int
    weight_ratio: float
    activation_ratio: float
    macs: int
    fp32_macs: int
    bops: int
    fp32_bops: int
    batch: int
    activations: tuple[ActivationMemory, ...]
    formulas: tuple[FormulaReport, ...]
    layers: tuple[LayerReport, ...]


def inspect_file(content: bytes, *, batch: int = 1, index_bits: int = INDEX_BITS) -> FileReport:
    """Decodes a packed file and counts; size formulas that have an index get one of 1 to 16 bits.

    `activations` of the report are those of `batch` images together. Errors are those of `unpack`, and ConfigError
    when a number is out of its bounds.
    """
    if batch < 1 or not 1 <= index_bits <= 16:
        raise ConfigError(
            f"a batch has 1 image or more and an index 1 to 16 bits, but got {batch} and {index_bits}: choose others."
        )
    packed, breakdown = unpack(content), size_breakdown(content)
    architecture = packed.header.architecture
    whole = unpruned(architecture)
    network, baseline = counted(skeleton(packed.header), architecture), counted(whole, architecture)
    layers = tuple(_layers(packed, network))
    weights = sum(layer.weights for layer in layers)
    coded = breakdown["codes"] + breakdown["models"]
    entropy = sum(layer.entropy_bytes or 0.0 for layer in layers)
    quantized = coded - sum(layer.coded_bytes for layer in layers if layer.entropy_bytes is None)
    fp32_bytes = 4 * count_parameters(whole)
    weight_fp32_bytes = 4 * sum(unit.layer.weight.numel() for unit in units(whole).values())
    return FileReport(
        architecture=architecture,
        size_bytes=len(content),
        breakdown=breakdown,
        weights=weights,
        nonzero_share=sum(layer.nonzero for layer in layers) / weights,
        bits_per_weight=8 * coded / weights,
        entropy_bytes=entropy,
        ratio_to_entropy=quantized / entropy if entropy else None,
        fp32_bytes=fp32_bytes,
        compression_ratio=fp32_bytes / len(content),
        weight_fp32_bytes=weight_fp32_bytes,
        weight_ratio=weight_fp32_bytes / coded,
        activation_ratio=baseline.counts.activation_bytes / network.counts.activation_bytes,
        macs=network.counts.macs,
        fp32_macs=baseline.counts.macs,
        bops=network.counts.bops,
        fp32_bops=baseline.counts.bops,
        batch=batch,
        activations=activation_memory(network, baseline, a_bits=packed.header.scheme.a_bits, batch=batch),
        formulas=formula_reports(packed, fp32_bytes=fp32_bytes, index_bits=index_bits),
        layers=layers,
    )


def _layers(packed: PackedModel, network: Counted) -> Iterator[LayerReport]:
    """Yields a report on each layer, in forward order."""
    names = coder_names()
    for layer, kind, bits, codes in zip(packed.layers, packed.kinds, packed.coded_bits, packed.codes, strict=True):
        cost = network.counts.layers[layer.name]
        work = {"a_bits": cost.a_bits, "macs": cost.macs, "bops": cost.bops, "activation_bytes": cost.activation_bytes}
        yield LayerReport(
            name=layer.name,
            shape=layer.shape,
            bits=layer.bits,
            coder=names[kind],
            weights=layer.count,
            nonzero=int((codes != 0).sum()),
            coded_bytes=bits / 8,
            bits_per_weight=bits / layer.count,
            entropy_bytes=None if layer.bits == FLOAT_BITS else entropy_bits(codes) / 8,
            **work,
        )
