"""A report on a packed file: where its bytes go, how near its weights are to their entropy, what a pass costs."""

from collections.abc import Iterator

import torch
from pydantic import ValidationError

from trainables.config import FLOAT_BITS, Architecture, Frozen, QuantScheme, in_words
from trainables.costs.activation_memory import ActivationMemory, Counted, activation_memory, counted
from trainables.errors import ConfigError
from trainables.export.coders.coder import coder_names
from trainables.export.coders.entropy import entropy_bits
from trainables.export.header import Header, skeleton
from trainables.export.inspect_formulas import INDEX_BITS, FormulaReport, formula_reports
from trainables.export.packed import PackedModel, size_breakdown, unpack
from trainables.models.model import Model, build, unpruned
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


class InFloat(Frozen):
    """A network in float32 beside a packed file: its bytes, and how many times smaller what the file has is.

    `compression_ratio` is that of all parameters to the file, `weight_ratio` of the weights of layers to what codes
    and models take in the file, `activation_ratio` of all activations to the file's (`buffers`). `macs` and `bops` are
    of one image, `activations` of a batch.
    """

    fp32_bytes: int
    compression_ratio: float
    weight_fp32_bytes: int
    weight_ratio: float
    activation_ratio: float
    fp32_macs: int
    fp32_bops: int
    activations: tuple[ActivationMemory, ...]


class FileReport(InFloat):
    """A whole file in numbers, beside the unpruned network in float32, and beside its own network in float32 (`own`).

    `breakdown` sums to `size_bytes`, and `ratio_to_entropy` leaves float32 weights out. Where float activations were
    counted as if they had fewer bits, `assumed_a_bits` says how many.
    """

    architecture: Architecture
    size_bytes: int
    breakdown: dict[str, int]
    weights: int
    nonzero_share: float
    bits_per_weight: float
    entropy_bytes: float
    ratio_to_entropy: float | None
    own: InFloat
    macs: int
    bops: int
    batch: int
    assumed_a_bits: int | None
    formulas: tuple[FormulaReport, ...]
    layers: tuple[LayerReport, ...]


def inspect_file(
    content: bytes, *, batch: int = 1, index_bits: int = INDEX_BITS, a_bits: int | None = None
) -> FileReport:
    """Decodes a packed file and counts; size formulas that have an index get one of 1 to 16 bits.

    `activations` of the report are those of `batch` images together. With `a_bits`, float activations are counted as
    if they were quantized to so many bits, by the file's scheme otherwise.

    Raises:
        ConfigError: a number is out of its bounds, or the file's activations have another width than `a_bits`.
        CorruptFile: as in `unpack`.
    """
    if batch < 1 or not 1 <= index_bits <= 16:
        raise ConfigError(
            f"a batch has 1 image or more and an index 1 to 16 bits, but got {batch} and {index_bits}: choose others."
        )
    packed, breakdown = unpack(content), size_breakdown(content)
    header = packed.header if a_bits is None else _with_activation_bits(packed.header, a_bits)
    architecture = header.architecture
    network, a_bits = counted(skeleton(header), architecture), header.scheme.a_bits
    layers = tuple(_layers(packed, network))
    weights = sum(layer.weights for layer in layers)
    coded = breakdown["codes"] + breakdown["models"]
    entropy = sum(layer.entropy_bytes or 0.0 for layer in layers)
    quantized = coded - sum(layer.coded_bytes for layer in layers if layer.entropy_bytes is None)
    with torch.device("meta"):
        own = build(architecture)
    sizes = {"size_bytes": len(content), "coded_bytes": coded, "a_bits": a_bits, "batch": batch}
    baseline = _in_float(unpruned(architecture), architecture, network, **sizes)
    return FileReport(
        **dict(baseline),
        architecture=architecture,
        size_bytes=len(content),
        breakdown=breakdown,
        weights=weights,
        nonzero_share=sum(layer.nonzero for layer in layers) / weights,
        bits_per_weight=8 * coded / weights,
        entropy_bytes=entropy,
        ratio_to_entropy=quantized / entropy if entropy else None,
        own=_in_float(own, architecture, network, **sizes),
        macs=network.counts.macs,
        bops=network.counts.bops,
        batch=batch,
        assumed_a_bits=None if header == packed.header else a_bits,
        formulas=formula_reports(packed, fp32_bytes=baseline.fp32_bytes, index_bits=index_bits),
        layers=layers,
    )


def _in_float(
    model: Model,
    architecture: Architecture,
    packed: Counted,
    *,
    size_bytes: int,
    coded_bytes: int,
    a_bits: int,
    batch: int,
) -> InFloat:
    """Returns what a network of float weights takes, beside the packed one: a file of so many bytes, weights of so
    many."""
    fp32_bytes, costs = 4 * count_parameters(model), counted(model, architecture)
    weight_fp32_bytes = 4 * sum(unit.layer.weight.numel() for unit in units(model).values())
    return InFloat(
        fp32_bytes=fp32_bytes,
        compression_ratio=fp32_bytes / size_bytes,
        weight_fp32_bytes=weight_fp32_bytes,
        weight_ratio=weight_fp32_bytes / coded_bytes,
        activation_ratio=costs.counts.activation_bytes / packed.counts.activation_bytes,
        fp32_macs=costs.counts.macs,
        fp32_bops=costs.counts.bops,
        activations=activation_memory(packed, costs, a_bits=a_bits, batch=batch),
    )


def _with_activation_bits(header: Header, a_bits: int) -> Header:
    """Returns the header of the same network with activations of this width, which are float in the file."""
    known = header.scheme.a_bits
    if known not in (FLOAT_BITS, a_bits):
        raise ConfigError(
            f"the activations are quantized to {known} bits, not float: leave out the {a_bits} bits to assume."
        )
    try:
        scheme = QuantScheme.model_validate({**header.scheme.model_dump(), "a_bits": a_bits})
    except ValidationError as err:
        raise ConfigError(f"{a_bits} bits of activations: {in_words(err.errors()[0])}.") from err
    return header.model_copy(update={"scheme": scheme})


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
