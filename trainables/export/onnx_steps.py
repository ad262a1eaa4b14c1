"""The nodes of one step of a network; the type of the step picks the function."""

from collections.abc import Mapping
from functools import singledispatch

import numpy as np
from torch import nn

from trainables.errors import ConfigError
from trainables.export.onnx_activations import Value, as_float, dequantized, quantize
from trainables.export.onnx_nodes import Nodes
from trainables.export.onnx_weights import LayerWeights, layer_inputs
from trainables.models.graph import Layer, MaxPool, Mean, Quantize, Residual
from trainables.models.model import Model
from trainables.models.units import LinearUnit, QuantPoint, Unit, quant_points, units


class Writer:
    """A view of what a step may use: the graph under construction, and the network with its weights."""

    def __init__(self, nodes: Nodes, network: Model, weights: Mapping[str, LayerWeights]) -> None:
        self.nodes, self.weights = nodes, weights
        self.units, self.points = units(network), quant_points(network)


@singledispatch
def emit(step: object, x: Value, writer: Writer) -> Value:
    """Adds the nodes of a step that reads `x`; returns what it computes.

    Raises:
        ConfigError: an activation function has no ONNX form here.
    """
    raise TypeError(f"no ONNX form of {type(step).__name__}")


@emit.register
def _(step: Layer, x: Value, writer: Writer) -> Value:
    """Adds a convolution or a linear layer, with its activation and quantizer."""
    unit, name, nodes = writer.units[step.unit], step.unit, writer.nodes
    if isinstance(unit, LinearUnit):
        x = quantize(nodes, x, unit.in_point.quantizer, f"{name}.input")
        inputs = layer_inputs(nodes, name, x, writer.weights[name])
        out = nodes.add("Gemm", *inputs, name=f"{name}.linear", transB=1)
        return Value(_activation(unit, out, name, nodes))
    conv, inputs = unit.layer, layer_inputs(nodes, name, x, writer.weights[name])
    sizes = {"kernel_shape": list(conv.kernel_size), "strides": list(conv.stride), "pads": 2 * list(conv.padding)}
    y = Value(nodes.add("Conv", *inputs, name=f"{name}.conv", **sizes, group=conv.groups))
    point = unit.out_point
    if not isinstance(point, QuantPoint):
        return Value(_activation(unit, y.name, name, nodes))
    if point.quantizer is None or point.signed:  # an unsigned quantizer clips as the activation does
        y = Value(_activation(unit, y.name, name, nodes))
    return quantize(nodes, y, point.quantizer, name)


@emit.register
def _(step: Quantize, x: Value, writer: Writer) -> Value:
    """Adds a quantizer by itself."""
    return quantize(writer.nodes, x, writer.points[step.point].quantizer, step.point)


@emit.register
def _(step: Residual, x: Value, writer: Writer) -> Value:
    """Adds the steps of a block, and the sum of its input and output."""
    y = x
    for inner in step.body:
        y = emit(inner, y, writer)
    operands = (dequantized(writer.nodes, x), dequantized(writer.nodes, y))
    return Value(writer.nodes.add("Add", *operands, name=f"{y.name}.sum"))


@emit.register
def _(step: MaxPool, x: Value, writer: Writer) -> Value:
    """Adds a pooling of the codes themselves where there is such a kernel: quantizing keeps the order."""
    pooled = x if x.grid is None or x.is_uint8 else Value(as_float(writer.nodes, x))
    window = [step.size, step.size]
    name = writer.nodes.add("MaxPool", pooled.name, name=f"{pooled.name}.max", kernel_shape=window, strides=window)
    return Value(name, pooled.grid)


@emit.register
def _(step: Mean, x: Value, writer: Writer) -> Value:
    """Adds a mean; GlobalAveragePool between codes would become an integer operation that rounds otherwise."""
    axes = writer.nodes.constant("rows_and_columns", np.array([2, 3]))
    values = dequantized(writer.nodes, x)
    return Value(writer.nodes.add("ReduceMean", values, axes, name=f"{x.name}.mean", keepdims=0))


def _activation(unit: Unit, y: str, name: str, nodes: Nodes) -> str:
    """Adds the activation of a unit, if it has one."""
    match unit.activation:
        case nn.Identity():
            return y
        case nn.ReLU6():
            ends = (nodes.constant(f"float.{end}", np.array(end, np.float32)) for end in (0, 6))
            return nodes.add("Clip", y, *ends, name=f"{name}.relu6")
        case nn.ReLU():
            return nodes.add("Relu", y, name=f"{name}.relu")
        case other:
            kind = type(other).__name__
            raise ConfigError(f"ONNX files are written for ReLU and ReLU6, not for {kind}: leave measure.onnx off.")
