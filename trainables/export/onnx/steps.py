"""The ONNX nodes of each operator of a network."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from trainables.errors import ConfigError
from trainables.export.onnx.activations import Value, as_float, dequantized, quantize
from trainables.export.onnx.moves import MOVES, pad, pad_mode
from trainables.export.onnx.reductions import REDUCTIONS
from trainables.export.onnx.weights import layer_inputs
from trainables.export.onnx.windows import WINDOWS, window
from trainables.export.onnx.writer import Form, Writer
from trainables.graph.graph import Node
from trainables.graph.operators import DROPOUTS, Leaf
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Function
from trainables.models.units import LinearUnit, QuantPoint, Unit, clips


def emit(node: Node, inputs: Sequence[Value], writer: Writer) -> Value:
    """Adds what computes a node; returns its output.

    Raises:
        ConfigError: the operator has no ONNX form here.
    """
    if node.operator == UNIT:
        return _unit(node, inputs[0], writer)
    if node.operator == QUANTIZE:
        quantizer = writer.points[node.name].quantizer
        x = inputs[0] if quantizer is None else Value(dequantized(writer.nodes, inputs[0]))
        return quantize(writer.nodes, x, quantizer, node.name)
    if node.operator in ON_CODES and inputs[0].grid is not None:
        return ON_CODES[node.operator](node, inputs[0], writer)
    form = FORMS.get(node.operator)
    if form is None:
        raise ConfigError(f"ONNX files are not written for the operator {node.operator}: leave measure.onnx off.")
    return Value(form(node, [dequantized(writer.nodes, x) for x in inputs], writer))


def _unit(node: Node, x: Value, writer: Writer) -> Value:
    """Adds a convolution or a linear layer, with its activation and quantizers."""
    unit, name, nodes = writer.units[node.name], node.name, writer.nodes
    if isinstance(unit, LinearUnit):
        if isinstance(unit.in_point, QuantPoint):
            x = quantize(nodes, x, unit.in_point.quantizer, f"{name}.input")
        value, weight, bias = layer_inputs(nodes, name, x, writer.weights[name])
        if writer.ranks[node.name] == 2:
            y = nodes.add("Gemm", value, weight, bias, name=f"{name}.linear", transB=1)
        else:
            turned = nodes.add("Transpose", weight, name=f"{name}.turned", perm=[1, 0])
            product = nodes.add("MatMul", value, turned, name=f"{name}.product")
            y = nodes.add("Add", product, bias, name=f"{name}.linear")
    else:
        conv, inputs = unit.layer, layer_inputs(nodes, name, x, writer.weights[name])
        sizes = {"kernel_shape": list(conv.kernel_size), "strides": list(conv.stride), "pads": 2 * list(conv.padding)}
        if tuple(conv.dilation) != (1, 1):
            sizes["dilations"] = list(conv.dilation)
        y = nodes.add("Conv", *inputs, name=f"{name}.conv", **sizes, group=conv.groups)
    point = unit.out_point
    plain = isinstance(unit.activation, nn.ReLU | nn.ReLU6)
    if not (plain and clips(point)):  # an unsigned quantizer clips as the activation does
        y = _activation(unit, y, name, writer)
    return quantize(nodes, Value(y), point.quantizer, name) if isinstance(point, QuantPoint) else Value(y)


def _activation(unit: Unit, y: str, name: str, writer: Writer) -> str:
    """Adds the activation of a unit, if it has one."""
    match unit.activation:
        case nn.Identity():
            return y
        case nn.ReLU6():
            ends = (writer.nodes.constant(f"float.{end}", np.array(end, np.float32)) for end in (0, 6))
            return writer.add("Clip", y, *ends, name=f"{name}.relu6")
        case nn.ReLU():
            return writer.add("Relu", y, name=f"{name}.relu")
        case Function() as function if function.operator in FORMS:
            node = Node(f"{name}.{function.operator}", function.operator, (y,), function.attributes)
            return FORMS[function.operator](node, [y], writer)
        case other:
            kind = other.operator if isinstance(other, Function) else type(other).__name__
            raise ConfigError(f"ONNX files are not written for the operator {kind}: leave measure.onnx off.")


def _plain(op: str) -> Form:
    return lambda node, x, writer: writer.add(op, *x, name=node.name)


def _clip(node: Node, x: Sequence[str], writer: Writer) -> str:
    ends = [node.attributes["low"], node.attributes["high"]]
    named = ["" if end is None else writer.floats(f"{node.name}.{i}", end) for i, end in enumerate(ends)]
    return writer.add("Clip", x[0], *named, name=node.name)


def _scale(node: Node, x: Sequence[str], writer: Writer) -> str:
    factor, offset, y = node.attributes["factor"], node.attributes["offset"], x[0]
    if factor != 1:
        name = node.name if offset == 0 else f"{node.name}.product"
        y = writer.add("Mul", y, writer.floats(f"{node.name}.factor", factor), name=name)
    if factor == 1 or offset != 0:
        y = writer.add("Add", y, writer.floats(f"{node.name}.offset", offset), name=node.name)
    return y


def _parameter(node: Node, x: Sequence[str], writer: Writer) -> str:
    leaf = writer.network.get_submodule(node.name)
    assert isinstance(leaf, Leaf)
    return writer.floats(node.name, leaf.value.detach())


def _silu(node: Node, x: Sequence[str], writer: Writer) -> str:
    return writer.add("Mul", x[0], writer.add("Sigmoid", x[0], name=f"{node.name}.gate"), name=node.name)


def _power(node: Node, x: Sequence[str], writer: Writer) -> str:
    return writer.add("Pow", x[0], writer.floats(f"{node.name}.exponent", node.attributes["exponent"]), name=node.name)


def _rsqrt(node: Node, x: Sequence[str], writer: Writer) -> str:
    return writer.add("Reciprocal", writer.add("Sqrt", x[0], name=f"{node.name}.root"), name=node.name)


FORMS: dict[str, Form] = {
    **{
        name: _plain(op)
        for name, op in {
            "relu": "Relu",
            "hardswish": "HardSwish",
            "sigmoid": "Sigmoid",
            "tanh": "Tanh",
            "mish": "Mish",
            "softplus": "Softplus",
            "exp": "Exp",
            "sqrt": "Sqrt",
            "abs": "Abs",
            "add": "Add",
            "subtract": "Sub",
            "multiply": "Mul",
            "divide": "Div",
            "maximum": "Max",
            "minimum": "Min",
            "matmul": "MatMul",
        }.items()
    },
    "clip": _clip,
    "scale": _scale,
    "power": _power,
    "rsqrt": _rsqrt,
    "silu": _silu,
    "leaky_relu": lambda n, x, w: w.add("LeakyRelu", x[0], name=n.name, alpha=n.attributes["slope"]),
    "elu": lambda n, x, w: w.add("Elu", x[0], name=n.name, alpha=n.attributes["alpha"]),
    "hardsigmoid": lambda n, x, w: w.add("HardSigmoid", x[0], name=n.name, alpha=1 / 6, beta=0.5),
    "gelu": lambda n, x, w: w.add("Gelu", x[0], name=n.name, approximate=n.attributes["approximate"]),
    "softmax": lambda n, x, w: w.add("Softmax", x[0], name=n.name, axis=n.attributes["dim"]),
    "parameter": _parameter,
    **MOVES,
    **WINDOWS,
    **REDUCTIONS,
}
"""By operator what adds its ONNX nodes, from float32 inputs."""


def _pool_codes(node: Node, x: Value, writer: Writer) -> Value:
    """Pools the codes themselves where there is such a kernel: quantizing keeps the order."""
    pooled = x if x.is_uint8 else Value(as_float(writer.nodes, x))
    return Value(writer.add("MaxPool", pooled.name, name=node.name, **window(node)), pooled.grid)


def _pad_codes(node: Node, x: Value, writer: Writer) -> Value:
    """Pads with the code of zero, where there is such a kernel and zero is asked for."""
    assert x.grid is not None
    if node.attributes["value"] != 0 or not x.is_uint8:
        return Value(pad(node, [as_float(writer.nodes, x)], writer))
    ends = writer.integers(f"{node.name}.ends", [*node.attributes["before"], *node.attributes["after"]])
    return Value(writer.add("Pad", x.name, ends, x.grid.names[1], name=node.name, **pad_mode(node)), x.grid)


def _moved(form: Form) -> Callable[[Node, Value, Writer], Value]:
    return lambda node, x, writer: Value(form(node, [x.name], writer), x.grid)


ON_CODES: dict[str, Callable[[Node, Value, Writer], Value]] = {
    "max_pool": _pool_codes,
    "pad": _pad_codes,
    **{name: _moved(FORMS[name]) for name in ("reshape", "permute", "slice", "roll", *DROPOUTS)},
}
"""The operators that work on integer codes as they are."""
