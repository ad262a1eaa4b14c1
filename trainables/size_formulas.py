"""Size formulas of earlier compression systems, which report a ratio without writing a file.

They put a network beside published numbers, each by the rule that made that number; a ratio is 4 · P of the
unpruned network over the bytes here. None counts everything a decoder needs, so none is ever an objective.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.config import FLOAT_BITS
from trainables.models.units import Unit, units
from trainables.quant.quantizer import Quantizer
from trainables.trace import point_bits


@dataclass(frozen=True)
class TensorFact:
    """A parameter, as a formula sees it.

    Weights of layers have the bits of their quantizer (32 without one), scales of batch norm the bits of most
    weights, biases 32. `nnz` counts the float values that pruning left, before rounding. `code_bits` is the length of
    the tensor's Huffman code, zeros included; a tensor without codes takes `bits` for each element.
    """

    name: str
    kind: Literal["conv", "linear", "scale", "bias"]
    numel: int
    nnz: int
    bits: int
    outputs: int
    code_bits: int


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


def formula_a(facts: NetworkFacts) -> int:
    """Every parameter at w_bits, no scales (porridgewithraisins/cs6886-a3)."""
    return sum(t.numel for t in facts.tensors) * facts.w_bits // 8


def formula_b(facts: NetworkFacts) -> float:
    """Non-zero parameters at w_bits with a 3-bit index each; 4 B per channel and layer.

    Three bits cannot index every gap between non-zero weights (Adithya-Satyarthi/MiniMobileNetV2).
    """
    nnz = sum(t.nnz for t in facts.tensors)
    scales = sum(t.outputs for t in facts.layers) + len(facts.layers)
    return nnz * facts.w_bits / 8 + 3 * nnz / 8 + 4 * scales


def formula_c(facts: NetworkFacts) -> float:
    """Weights of layers and 4 B per layer; no batch norm, no biases (cs24m538-coder/Assignment3-MobileNet-Compression).

    That system does not say how it counts: the rule was inferred from its table.
    """
    return sum(t.numel * t.bits / 8 for t in facts.layers) + 4 * len(facts.layers)


def formula_d(facts: NetworkFacts) -> int:
    """Weights, batch norm's scales among them, and float32 biases (varun-analyst/CS6886-Sys_for_dl-Assignment3)."""
    return sum(4 * t.numel if t.kind == "bias" else t.numel * t.bits // 8 for t in facts.tensors)


def formula_kalkura(facts: NetworkFacts) -> int:
    """Codebook, codes, gaps and a bitmask for each weight (RakshithaKalkura/cs6886-A3-mobileNet-v2); no biases."""
    return sum(_kalkura_tensor(t) for t in facts.weights)


def formula_kalkura_huffman(facts: NetworkFacts) -> int:
    """The same system's Huffman package: one code stream, zeros among the symbols, and codebooks; no code tables."""
    return -(-sum(t.code_bits for t in facts.weights) // 8) + sum(_codebook(t) for t in facts.weights)


FORMULAS: dict[str, Callable[[NetworkFacts], float]] = {
    "a": formula_a,
    "b": formula_b,
    "c": formula_c,
    "d": formula_d,
    "kalkura": formula_kalkura,
    "kalkura_huffman": formula_kalkura_huffman,
}


def formula_bytes(model: nn.Module) -> dict[str, int]:
    """Whole bytes of a network under each formula.

    `a` and `b` know one width and take that of most weights, which is the scheme's w_bits unless most have
    their own; the others take each layer's bits.
    """
    facts = network_facts(model)
    return {name: int(formula(facts)) for name, formula in FORMULAS.items()}


def network_facts(model: nn.Module) -> NetworkFacts:
    """The parameters of a network with their bits; step sizes are no parameters."""
    layers = {f"{name}.layer.weight": unit for name, unit in units(model).items()}
    counts: Counter[int] = Counter()
    for unit in layers.values():
        counts[point_bits(unit.weight_point)] += unit.layer.weight.numel()
    w_bits = max(counts, key=lambda bits: (counts[bits], bits))
    parameters = [(name, p.detach()) for name, p in model.named_parameters() if ".quantizer." not in name]
    return NetworkFacts(w_bits, tuple(_fact(name, p, layers.get(name), w_bits) for name, p in parameters))


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
    kind: Literal["conv", "linear", "scale", "bias"] = "bias" if name.endswith("bias") else "scale"
    bits = FLOAT_BITS if kind == "bias" else w_bits
    code_bits = tensor.numel() * bits
    if unit is not None:
        kind, bits = "linear" if tensor.ndim == 2 else "conv", point_bits(unit.weight_point)
        code_bits = _code_bits(unit)
    nnz = int(torch.count_nonzero(tensor))
    return TensorFact(name, kind, tensor.numel(), nnz, bits, tensor.shape[0], code_bits)


def _code_bits(unit: Unit) -> int:
    quantizer, weight = unit.weight_point.quantizer, unit.layer.weight.detach()
    if not isinstance(quantizer, Quantizer):
        return weight.numel() * FLOAT_BITS
    symbols = quantizer.codes(weight).flatten() + quantizer.qn
    return huffman_bits(torch.bincount(symbols).tolist())


def _kalkura_tensor(tensor: TensorFact) -> int:
    gap_bits = 5 if tensor.kind == "linear" else 8
    streams = (tensor.nnz * tensor.bits, tensor.nnz * gap_bits, tensor.numel)
    return _codebook(tensor) + sum(-(-bits // 8) for bits in streams)


def _codebook(tensor: TensorFact) -> int:
    """float32 centroids: one for each code, or for each value where those are fewer."""
    return 4 * min(1 << tensor.bits, tensor.nnz)
