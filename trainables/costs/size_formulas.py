"""Size formulas of earlier compression systems, which report a ratio without writing a file.

They put a network beside published numbers, each by the rule that made that number; a ratio is 4 · P of the
unpruned network over the bytes here. None counts everything a decoder needs, so none is ever an objective.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import FLOAT_BITS
from trainables.costs.operations import point_bits
from trainables.models.quantizer import Quantizer
from trainables.models.units import Unit, units

Kind = Literal["conv", "linear", "scale", "bias"]
Scales = Literal["channel", "tensor", "none"]


@dataclass(frozen=True)
class TensorFact:
    """A parameter, as a formula sees it.

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
    """All parameters of a network; `w_bits` is the width of most weights, for formulas that know only one."""

    w_bits: int
    tensors: tuple[TensorFact, ...]

    @property
    def layers(self) -> list[TensorFact]:
        """Weights of convolutions and linear layers."""
        return [t for t in self.tensors if t.kind in ("conv", "linear")]

    @property
    def weights(self) -> list[TensorFact]:
        """Everything that is called weight: those of layers, and the scales of batch norm."""
        return [t for t in self.tensors if t.kind != "bias"]


def every_parameter_bytes(facts: NetworkFacts) -> int:
    """Every parameter at w_bits, no scales (porridgewithraisins/cs6886-a3)."""
    return sum(t.numel for t in facts.tensors) * facts.w_bits // 8


def nonzero_bytes(
    facts: NetworkFacts,
    *,
    index_bits: int = 3,
    scales: Scales = "channel",
    fillers: bool = False,
    weights_only: bool = False,
    norm_statistics: bool = False,
) -> float:
    """Parameters that are not zero, each with an index, and float32 scales.

    The defaults are the rule of Adithya-Satyarthi/MiniMobileNetV2, whose three bits cannot index every gap.

    Args:
        facts: of the network; with `fillers` they know their runs of zeros.
        index_bits: for the zeros between an element and the one before; 0 for the claim without an index.
        scales: 4 B for each output channel and 4 for each layer; for each layer alone; or none.
        fillers: store a zero, with its index, wherever a gap is too long for the index (`entries`).
        weights_only: without biases, and each weight at its own bits; else every parameter is counted at w_bits.
        norm_statistics: float32 means and variances of batch norm too, which are no parameters.
    """
    stored = facts.weights if weights_only else facts.tensors
    bits = 0
    for tensor in stored:
        count = entries(tensor, index_bits) if fillers else tensor.nnz
        bits += count * ((tensor.bits if weights_only else facts.w_bits) + index_bits)
    per_channel = sum(t.outputs for t in facts.layers) if scales == "channel" else 0
    per_layer = len(facts.layers) if scales != "none" else 0
    statistics = 2 * sum(t.numel for t in facts.tensors if t.kind == "scale") if norm_statistics else 0
    return bits / 8 + 4 * (per_channel + per_layer + statistics)


def entries(tensor: TensorFact, index_bits: int) -> int:
    """Stored elements of a relative index: the non-zero ones, and a filler zero for every 2^k zeros before one.

    k bits count up to 2^k − 1 zeros between two entries; a filler is itself the zero after that many (Han et al.,
    arXiv 1510.00149). Zeros after the last non-zero element need no entry.
    """
    assert tensor.zero_runs is not None, "the runs of zeros are known"
    return tensor.nnz + sum(count * (run >> index_bits) for run, count in tensor.zero_runs.items())


def layer_weight_bytes(facts: NetworkFacts) -> float:
    """Weights of layers and 4 B per layer; no batch norm, no biases (cs24m538-coder/Assignment3-MobileNet-Compression).

    That system does not say how it counts: the rule was inferred from its table.
    """
    return sum(t.numel * t.bits / 8 for t in facts.layers) + 4 * len(facts.layers)


def float_bias_bytes(facts: NetworkFacts) -> int:
    """Weights, batch norm's scales among them, and float32 biases (varun-analyst/CS6886-Sys_for_dl-Assignment3)."""
    return sum(4 * t.numel if t.kind == "bias" else t.numel * t.bits // 8 for t in facts.tensors)


def codebook_bytes(facts: NetworkFacts, *, gap_bits: int = 8, linear_gap_bits: int = 5) -> int:
    """Codebook, codes, gaps and a bitmask for each weight (RakshithaKalkura/cs6886-A3-mobileNet-v2); no biases."""
    total = 0
    for t in facts.weights:
        streams = (t.nnz * t.bits, t.nnz * (linear_gap_bits if t.kind == "linear" else gap_bits), t.numel)
        total += _codebook(t) + sum(-(-bits // 8) for bits in streams)
    return total


def huffman_bytes(facts: NetworkFacts, *, biases: bool = False) -> int:
    """The same system's Huffman package: one code stream, zeros among the symbols, and codebooks; no code tables.

    `biases` adds those in float32, which that system leaves out.
    """
    floats = 4 * sum(t.numel for t in facts.tensors if t.kind == "bias") if biases else 0
    return -(-sum(t.code_bits for t in facts.weights) // 8) + sum(_codebook(t) for t in facts.weights) + floats


FORMULAS: dict[str, Callable[[NetworkFacts], float]] = {
    "a": every_parameter_bytes,
    "b": nonzero_bytes,
    "c": layer_weight_bytes,
    "d": float_bias_bytes,
    "kalkura": codebook_bytes,
    "kalkura_huffman": huffman_bytes,
}
"""By the names that they have in the columns of the table of trials."""


def formula_bytes(model: nn.Module) -> dict[str, int]:
    """Whole bytes of a network under each formula.

    `a` and `b` know one width and take that of most weights, which is the scheme's w_bits unless most have
    their own; the others take each layer's bits.
    """
    facts = network_facts(model)
    return {name: int(formula(facts)) for name, formula in FORMULAS.items()}


def network_facts(model: nn.Module) -> NetworkFacts:
    """The parameters of a network with their bits; step sizes are no parameters, and runs of zeros stay unknown."""
    w_bits, layers = common_bits(model), layer_weights(model)
    return NetworkFacts(w_bits, tuple(_fact(n, p, layers.get(n), w_bits) for n, p in named_parameters(model)))


def named_parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All but the step sizes of quantizers."""
    return [(name, p.detach()) for name, p in model.named_parameters() if ".quantizer." not in name]


def layer_weights(model: nn.Module) -> dict[str, Unit]:
    """The units by the names of their weights."""
    return {f"{name}.layer.weight": unit for name, unit in units(model).items()}


def common_bits(model: nn.Module) -> int:
    """The width of most weights of layers, the larger one of two that are as common."""
    counts: Counter[int] = Counter()
    for unit in units(model).values():
        counts[point_bits(unit.weight_point)] += unit.layer.weight.numel()
    return max(counts, key=lambda bits: (counts[bits], bits))


def dense_fact(name: str, shape: Sequence[int], w_bits: int) -> TensorFact:
    """Of a parameter without zeros that is no layer's weight."""
    numel = int(np.prod(shape))
    kind: Kind = "bias" if name.endswith("bias") else "scale"
    bits = FLOAT_BITS if kind == "bias" else w_bits
    return TensorFact(name, kind, numel, numel, bits, shape[0], numel * bits, zero_runs={0: numel})


def zero_runs(values: np.ndarray) -> dict[int, int]:
    """How many non-zero elements have so many zeros right before them, in C order."""
    runs = np.diff(np.flatnonzero(values), prepend=-1) - 1
    lengths, counts = np.unique(runs, return_counts=True)
    return dict(zip(lengths.tolist(), counts.tolist(), strict=True))


def huffman_bits(counts: Sequence[int]) -> int:
    """Length of an optimal prefix code for symbols that occur this often; a lone symbol takes one bit each time."""
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


def _codebook(tensor: TensorFact) -> int:
    """float32 centroids: one for each code, or for each value where those are fewer."""
    return 4 * min(1 << tensor.bits, tensor.nnz)
