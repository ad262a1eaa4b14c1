"""Costs that follow from a network's shape and bits alone: MACs, BOPs, bytes of activations.

Every number is for one image. Bits are those of the attached quantizers; a tensor without one has 32.

Which activations exist follows from the operations of one forward pass, so any network of units can be counted,
with branches, sums and concatenations where it likes. A buffer is a tensor that a fused kernel has to write. An
operation element by element, such as batch norm, an activation, a quantizer or a sum, works in place on the
newest operand of its size that nobody reads again; all others open a buffer. A buffer has the bits of the last
quantizer on it, and lives from the operation that opens it to the last one that reads it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.config import FLOAT_BITS, Architecture
from trainables.costs.operations import Op, operations, point_bits
from trainables.models.fusing import LAYERS
from trainables.models.model import Model
from trainables.models.placing import CARRIES
from trainables.models.units import Unit, count_parameters, units
from trainables.results import COUNTED

IMAGE_BITS = 8
"""Bits of a pixel's color in the images of all data sets here."""
GATHERING = (
    *LAYERS,
    "max_pool",
    "mean_pool",
    "adaptive_mean",
    "mean",
    "sum",
    "max",
    "concatenate",
    "pad",
    "matmul",
    "attention",
)
"""Operators whose outputs read more than one element, or have another place: they cannot work in place."""
SELECTING = (*CARRIES, "relu", "clip", "max")
"""Operators that make no new values: the bits of their input stay."""


@dataclass(frozen=True)
class LayerCount:
    """The multiply-accumulates of one weight layer, the bits of their operands, and the bytes of its output.

    The output is the buffer that the layer writes: batch norm, activation and a residual sum work in place on it.
    """

    macs: int
    w_bits: int
    a_bits: int
    activation_bytes: int

    @property
    def bops(self) -> int:
        """The bit operations: MACs times both widths (Baskin et al., arXiv 1804.10969, without the accumulator)."""
        return self.macs * self.w_bits * self.a_bits


@dataclass(frozen=True)
class Counts:
    """The costs of one image.

    `activation_bytes` is the sum over all buffers but the image; `peak_activation_bytes` the most that is alive
    at one operation: what it reads and writes, and what is held for later, such as the input of a residual block.
    """

    layers: dict[str, LayerCount]
    activation_bytes: int
    peak_activation_bytes: int
    product_macs: int = 0
    """The multiply-accumulates of products of two activations, as in attention; their operands are float."""

    @property
    def macs(self) -> int:
        """The multiply-accumulates of all weight layers, and of products of activations."""
        return sum(layer.macs for layer in self.layers.values()) + self.product_macs

    @property
    def bops(self) -> int:
        """The bit operations of all weight layers, and of products of activations."""
        return sum(layer.bops for layer in self.layers.values()) + self.product_macs * FLOAT_BITS * FLOAT_BITS


def count(model: Model, architecture: Architecture) -> Counts:
    """Counts the costs of a network, with the quantizers that are attached to it.

    The input of a layer has the bits of the last quantizer that the tensor passed: the output of the layer
    before, the sum of a residual block (not below `residual_bits`), or the classifier's own input point. The
    image has 8 bits where the first layer's weight is quantized and 32 in a float network, so that fp32 costs
    32 · 32 per MAC everywhere. Logits are float.
    """
    named = units(model)
    first = next(iter(named.values()))
    image_bits = FLOAT_BITS if point_bits(first.weight_point) == FLOAT_BITS else IMAGE_BITS
    image = _Buffer(math.prod(architecture.image), image_bits, first=0, last=0)
    ops = operations(model)
    buffers, passed = [image], dict[str, tuple[Op, int, int]]()
    place = _Placement(ops, buffers)
    for i, op in enumerate(ops):
        a_bits = buffers[place.of[op.inputs[0]]].bits
        place.run(i, op)
        if op.name in LAYERS and op.unit is not None:
            passed[op.unit] = (op, a_bits, place.of[op.output])
    layers = {
        name: _layer_count(named[name], op, a_bits=a_bits, activation_bytes=buffers[output].bytes)
        for name, (op, a_bits, output) in passed.items()
    }
    peak = max(sum(b.bytes for b in buffers if b.first <= i <= b.last) for i in range(len(ops)))
    return Counts(layers, sum(b.bytes for b in buffers[1:]), peak, sum(op.macs for op in ops))


def counted_metrics(model: Model, architecture: Architecture) -> dict[str, Any]:
    """Counts the metrics that need no values of weights, COUNTED, by name."""
    counts = count(model, architecture)
    return {name: count_parameters(model) if name == "parameters" else getattr(counts, name) for name in COUNTED}


def sparsity_achieved(codes: Sequence[np.ndarray]) -> float:
    """Returns the share of zeros among all weights of a decoded file, whose layers `codes` holds."""
    total = sum(layer.size for layer in codes)
    return 1 - sum(int(np.count_nonzero(layer)) for layer in codes) / total


@dataclass
class _Buffer:
    """A tensor that a kernel writes: its size, and the first and the last operation that need it."""

    elements: int
    bits: int
    first: int
    last: int

    @property
    def bytes(self) -> int:
        return -(-self.elements * self.bits // 8)


class _Placement:
    """A plan that puts outputs of operations, given in order, into buffers; `of` maps tensors to places in the list."""

    def __init__(self, ops: Sequence[Op], buffers: list[_Buffer]) -> None:
        self.of = {0: 0}
        self._buffers = buffers
        self._last_read = {t: i for i, op in enumerate(ops) for t in op.inputs}
        buffers[0].last = self._last_read[0]

    def run(self, i: int, op: Op) -> None:
        """Puts the output of operation number `i` into the buffer that it overwrites, or into a new one."""
        target = self._target(i, op)
        if target is None:
            target = len(self._buffers)
            self._buffers.append(_Buffer(op.elements, FLOAT_BITS, first=i, last=i))
        buffer = self._buffers[target]
        keeps = op.name in SELECTING
        unquantized = self._buffers[self.of[op.inputs[0]]].bits if keeps else FLOAT_BITS
        buffer.bits = unquantized if op.bits == FLOAT_BITS else op.bits
        self.of[op.output] = target
        buffer.last = max(buffer.last, self._last_read.get(op.output, i))

    def _target(self, i: int, op: Op) -> int | None:
        """Returns the buffer that the operation may overwrite."""
        if op.name in GATHERING:
            return None
        places = {self.of[t] for t in op.inputs}
        free = [p for p in places if self._buffers[p].elements == op.elements and self._buffers[p].last <= i]
        return max(free, default=None)


def _layer_count(unit: Unit, op: Op, *, a_bits: int, activation_bytes: int) -> LayerCount:
    weight = unit.layer.weight
    macs = weight.numel() * op.elements // weight.shape[0]
    return LayerCount(macs, point_bits(unit.weight_point), a_bits, activation_bytes)
