"""Size formulas of earlier compression systems, which report a ratio without writing a file.

They put a network beside published numbers, each by the rule that made that number; a ratio is 4 · P of the
unpruned network over the bytes here. None counts everything a decoder needs, so none is ever an objective.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import FLOAT_BITS, Frozen
from trainables.costs.operations import point_bits
from trainables.models.quantizer import Quantizer
from trainables.models.units import Unit, named_parameters, units

Kind = Literal["conv", "linear", "scale", "bias"]
Scales = Literal["channel", "tensor", "none"]


@dataclass(frozen=True)
class TensorFact:
    """A parameter of a network, as a formula sees it.

    Weights of layers have the bits of their quantizer (32 without one), scales of batch norm the bits of most
    weights, biases 32. `nnz` counts the values that are not zero: of a network in training the float values that
    pruning left, of a file its codes. `code_bits` is the length of the tensor's Huffman code, zeros included; a
    tensor without codes takes `bits` for each element. `zero_runs` says how many of the non-zero elements have so
    many zeros right before them in C order; None: nobody looked.
    """

    name: str
    kind: Kind
    numel: int
    nnz: int
    bits: int
    outputs: int
    code_bits: int
    zero_runs: Mapping[int, int] | None = None


@dataclass(frozen=True)
class NetworkFacts:
    """The parameters of a network; `w_bits` is the width of most weights, for formulas that know only one."""

    w_bits: int
    tensors: tuple[TensorFact, ...]

    @property
    def layers(self) -> list[TensorFact]:
        """The weights of convolutions and linear layers."""
        return [t for t in self.tensors if t.kind in ("conv", "linear")]

    @property
    def weights(self) -> list[TensorFact]:
        """The parameters that torch names weight: those of layers, and the scales of batch norm."""
        return [t for t in self.tensors if t.kind != "bias"]


class Term(Frozen):
    """A part of what a formula counts: so many values, of so many bits each if all have as many, in so many bytes."""

    what: str
    count: int
    bits: int | None
    size_bytes: float


def total_bytes(terms: Iterable[Term]) -> float:
    """Returns the bytes of all terms of a formula."""
    return sum(term.size_bytes for term in terms)


def every_parameter(facts: NetworkFacts) -> list[Term]:
    """Counts every parameter at w_bits, and no scales (porridgewithraisins/cs6886-a3)."""
    count = sum(t.numel for t in facts.tensors)
    return [Term(what="parameters", count=count, bits=facts.w_bits, size_bytes=count * facts.w_bits // 8)]


def nonzero(
    facts: NetworkFacts,
    *,
    index_bits: int = 3,
    scales: Scales = "channel",
    fillers: bool = False,
    weights_only: bool = False,
    norm_statistics: bool = False,
) -> list[Term]:
    """Counts the parameters that are not zero, each with an index, and float32 scales.

    The defaults are the rule of Adithya-Satyarthi/MiniMobileNetV2, whose three bits cannot index every gap.

    Args:
        facts: the parameters; with `fillers` they know their runs of zeros.
        index_bits: bits for the zeros between an element and the one before; 0 for the claim without an index.
        scales: whether there are 4 B for each output channel and for each layer, for each layer alone, or none.
        fillers: whether a zero is stored, with its index, where a gap is too long for the index (`entries`).
        weights_only: whether biases are left out and each weight has its own bits; else all parameters have w_bits.
        norm_statistics: whether float32 means and variances of batch norm count, which are no parameters.
    """
    tensors = facts.weights if weights_only else facts.tensors
    counts = [(t.nnz, entries(t, index_bits) - t.nnz if fillers else 0) for t in tensors]
    bits = [t.bits if weights_only else facts.w_bits for t in tensors]
    values = _values("non-zero values", [n for n, _ in counts], bits)
    stored = _values("filler zeros", [n for _, n in counts], bits)
    total = values.count + stored.count
    statistics = 2 * sum(t.numel for t in facts.tensors if t.kind == "scale") if norm_statistics else 0
    terms = [
        values,
        stored,
        Term(what="indices", count=total, bits=index_bits, size_bytes=total * index_bits / 8),
        _floats("scales of channels", sum(t.outputs for t in facts.layers) if scales == "channel" else 0),
        _floats("scales of layers", len(facts.layers) if scales != "none" else 0),
        _floats("batch norm statistics", statistics),
    ]
    return [term for term in terms if term.size_bytes]


def entries(tensor: TensorFact, index_bits: int) -> int:
    """Counts what a relative index stores: the non-zero elements, and a filler zero for every 2^k zeros before one.

    k bits count up to 2^k − 1 zeros between two entries; a filler is itself the zero after that many (Han et al.,
    arXiv 1510.00149). Zeros after the last non-zero element need no entry.
    """
    assert tensor.zero_runs is not None, "the runs of zeros are known"
    return tensor.nnz + sum(count * (run >> index_bits) for run, count in tensor.zero_runs.items())


def layer_weight(facts: NetworkFacts) -> list[Term]:
    """Counts weights of layers and 4 B per layer (cs24m538-coder/Assignment3-MobileNet-Compression).

    Batch norm and biases are left out. That system does not say how it counts: the rule was inferred from its table.
    """
    layers = facts.layers
    weights = _values("weights", [t.numel for t in layers], [t.bits for t in layers])
    return [weights, _floats("scales of layers", len(layers))]


def float_bias(facts: NetworkFacts) -> list[Term]:
    """Counts weights, batch norm's scales too, and float32 biases (varun-analyst/CS6886-Sys_for_dl-Assignment3)."""
    weights = facts.weights
    parts = [t.numel * t.bits // 8 for t in weights]
    own = _values("weights, norm scales", [t.numel for t in weights], [t.bits for t in weights])
    return [own.model_copy(update={"size_bytes": sum(parts)}), _biases(facts)]


def codebook(facts: NetworkFacts, *, gap_bits: int = 8, linear_gap_bits: int = 5) -> list[Term]:
    """Counts codebook, codes, gaps and bitmask of each weight, no biases (RakshithaKalkura/cs6886-A3-mobileNet-v2)."""
    weights = facts.weights
    linear = [t.nnz for t in weights if t.kind == "linear"]
    others = [t.nnz for t in weights if t.kind != "linear"]
    streams = [
        _whole("codes", [t.nnz for t in weights], [t.bits for t in weights]),
        _whole("gaps", others, [gap_bits] * len(others)),
        _whole("gaps of linear layers", linear, [linear_gap_bits] * len(linear)),
        _whole("bitmask", [t.numel for t in weights], [1] * len(weights)),
    ]
    return [_codebooks(facts), *streams]


def huffman(facts: NetworkFacts, *, biases: bool = False) -> list[Term]:
    """Counts the Huffman package of the system of `codebook`: one code stream, with zeros, and codebooks.

    It leaves out the code tables, and the float32 biases unless `biases` adds them.
    """
    stream = -(-sum(t.code_bits for t in facts.weights) // 8)
    codes = Term(what="Huffman code", count=sum(t.numel for t in facts.weights), bits=None, size_bytes=stream)
    return [codes, _codebooks(facts), *([_biases(facts)] if biases else [])]


def _values(what: str, counts: Sequence[int], bits: Sequence[int]) -> Term:
    """Returns a term of tensors with so many values, whose bits may differ."""
    size, widths = sum(n * b for n, b in zip(counts, bits, strict=True)) / 8, set(bits)
    return Term(what=what, count=sum(counts), bits=min(widths) if len(widths) == 1 else None, size_bytes=size)


def _whole(what: str, counts: Sequence[int], bits: Sequence[int]) -> Term:
    """Returns a term of streams, one for each tensor, that each fill whole bytes."""
    size = sum(-(-n * b // 8) for n, b in zip(counts, bits, strict=True))
    return _values(what, counts, bits).model_copy(update={"size_bytes": size})


def _floats(what: str, count: int) -> Term:
    return Term(what=what, count=count, bits=FLOAT_BITS, size_bytes=4 * count)


def _biases(facts: NetworkFacts) -> Term:
    return _floats("biases", sum(t.numel for t in facts.tensors if t.kind == "bias"))


def _codebooks(facts: NetworkFacts) -> Term:
    """Counts float32 centroids: one for each code of a tensor, or for each value where those are fewer."""
    return _floats("codebook entries", sum(min(1 << t.bits, t.nnz) for t in facts.weights))


FORMULAS: dict[str, Callable[[NetworkFacts], list[Term]]] = {
    "a": every_parameter,
    "b": nonzero,
    "c": layer_weight,
    "d": float_bias,
    "kalkura": codebook,
    "kalkura_huffman": huffman,
}
"""The formulas by the names that they have in the columns of the table of trials."""


def formula_bytes(model: nn.Module) -> dict[str, int]:
    """Returns the whole bytes of a network under each formula.

    `a` and `b` know one width and take that of most weights, which is the scheme's w_bits unless most have
    their own; the others take each layer's bits.
    """
    facts = network_facts(model)
    return {name: int(total_bytes(formula(facts))) for name, formula in FORMULAS.items()}


def network_facts(model: nn.Module) -> NetworkFacts:
    """Reads the parameters of a network with their bits; no step sizes are among them; runs of zeros stay unknown."""
    w_bits, layers = common_bits(model), layer_weights(model)
    return NetworkFacts(w_bits, tuple(_fact(n, p, layers.get(n), w_bits) for n, p in named_parameters(model)))


def layer_weights(model: nn.Module) -> dict[str, Unit]:
    """Returns the units by the names of their weights."""
    return {f"{name}.layer.weight": unit for name, unit in units(model).items()}


def common_bits(model: nn.Module) -> int:
    """Returns the width of most weights of layers, the larger one of two that are as common."""
    counts: Counter[int] = Counter()
    for unit in units(model).values():
        counts[point_bits(unit.weight_point)] += unit.layer.weight.numel()
    return max(counts, key=lambda bits: (counts[bits], bits))


def dense_fact(name: str, shape: Sequence[int], w_bits: int) -> TensorFact:
    """Describes a parameter without zeros that is no layer's weight."""
    numel = int(np.prod(shape))
    kind: Kind = "bias" if name.endswith("bias") else "scale"
    bits = FLOAT_BITS if kind == "bias" else w_bits
    return TensorFact(name, kind, numel, numel, bits, shape[0], numel * bits, zero_runs={0: numel})


def zero_runs(values: np.ndarray) -> dict[int, int]:
    """Counts by number of zeros right before them, in C order, the elements that are not zero."""
    runs = np.diff(np.flatnonzero(values), prepend=-1) - 1
    lengths, counts = np.unique(runs, return_counts=True)
    return dict(zip(lengths.tolist(), counts.tolist(), strict=True))


def huffman_bits(counts: Sequence[int]) -> int:
    """Returns the bits of an optimal prefix code for symbols that occur this often; a lone symbol takes a bit."""
    heap = [c for c in counts if c]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        total += pair
        heapq.heappush(heap, pair)
    return total


def _fact(name: str, tensor: Tensor, unit: Unit | None, w_bits: int) -> TensorFact:
    nnz = int(torch.count_nonzero(tensor))
    if unit is None:
        return replace(dense_fact(name, tensor.shape, w_bits), nnz=nnz, zero_runs=None)
    kind: Kind = "linear" if tensor.ndim == 2 else "conv"
    bits = point_bits(unit.weight_point)
    return TensorFact(name, kind, tensor.numel(), nnz, bits, tensor.shape[0], _code_bits(unit))


def _code_bits(unit: Unit) -> int:
    quantizer, weight = unit.weight_point.quantizer, unit.layer.weight.detach()
    if not isinstance(quantizer, Quantizer):
        return weight.numel() * FLOAT_BITS
    symbols = quantizer.codes(weight).flatten() + quantizer.qn
    return huffman_bits(torch.bincount(symbols).tolist())
