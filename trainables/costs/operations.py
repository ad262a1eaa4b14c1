"""What one forward pass computes: its operations on activations, read off a network's graph.

A quantizer is an operation of its own, which writes a tensor of its bits; its arithmetic is left out.
"""

import math
from dataclasses import dataclass, replace

from torch import nn

from trainables.config import FLOAT_BITS
from trainables.graph.graph import IMAGE
from trainables.graph.operators import Shape
from trainables.models.dynamic_quantizer import DynamicQuantizer
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Model
from trainables.models.quantizer import Quantizer
from trainables.models.units import ConvUnit, LinearUnit, QuantPoint, quant_points, units

PRODUCTS = ("matmul", "attention")
"""Operators that multiply activations with each other."""


@dataclass(frozen=True)
class Op:
    """One operation on activations; tensors are numbered, 0 is the image.

    `name` is that of the operator. `elements` are those of the output, for one image. `bits` are a quantizer's; every
    other operation has 32. `macs` are those of a product of two activations; those of layers follow from their weights.
    """

    name: str
    unit: str | None
    inputs: tuple[int, ...]
    output: int
    elements: int
    bits: int = FLOAT_BITS
    macs: int = 0


def operations(model: Model) -> list[Op]:
    """Returns the operations of one image in order, in evaluation mode; weights do not matter."""
    layout, named, points = model.layout, units(model), quant_points(model)
    ops: list[Op] = []
    numbers = {IMAGE: 0}

    def add(name: str, inputs: tuple[int, ...], elements: int, unit: str | None = None, bits: int = FLOAT_BITS) -> int:
        ops.append(Op(name, unit, inputs, len(ops) + 1, elements, bits))
        return len(ops)

    def quantized(point: nn.Module, number: int, elements: int, unit: str | None = None) -> int:
        bits = point_bits(point)
        return number if bits == FLOAT_BITS else add(QUANTIZE, (number,), elements, unit, bits)

    for node in layout.graph.nodes:
        inputs = tuple(numbers[name] for name in node.inputs if name in numbers)
        if node.operator == UNIT:
            unit, plan = named[node.name], layout.fused.units[node.name]
            elements = math.prod(layout.shapes[plan.layer.name])
            number = inputs[0]
            if isinstance(unit, LinearUnit):
                entering = elements // unit.layer.weight.shape[0] * unit.layer.weight.shape[1]
                number = quantized(unit.in_point, number, entering, node.name)
            number = add(plan.layer.operator, (number,), elements, node.name)
            if isinstance(unit, ConvUnit) and not isinstance(unit.bn, nn.Identity):
                number = add("batch_norm", (number,), elements, node.name)
            if plan.activation is not None:
                number = add(plan.activation.operator, (number,), elements, node.name)
            numbers[node.name] = quantized(unit.out_point, number, elements, node.name)
        elif node.operator == QUANTIZE:
            numbers[node.name] = quantized(points[node.name], inputs[0], ops[inputs[0] - 1].elements)
        elif inputs:  # what reads nothing is a parameter
            numbers[node.name] = add(node.operator, inputs, math.prod(layout.shapes[node.name]))
            if node.operator in PRODUCTS:
                ops[-1] = replace(ops[-1], macs=_macs([layout.size(name) for name in node.inputs], ops[-1].elements))
    return ops


def _macs(shapes: list[Shape], elements: int) -> int:
    """Counts the multiply-accumulates of a product, or of attention, which is two of them."""
    if len(shapes) == 2:
        return elements * shapes[0][-1]
    queries, keys = shapes[0], shapes[1]
    return math.prod(queries[:-1]) * keys[-2] * queries[-1] + elements * keys[-2]


def point_bits(point: nn.Module) -> int:
    """Returns the bits of the quantizer at a point; 32 where there is none."""
    quantizer = point.quantizer if isinstance(point, QuantPoint) else None
    return quantizer.bits if isinstance(quantizer, Quantizer | DynamicQuantizer) else FLOAT_BITS
