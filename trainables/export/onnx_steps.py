"""The ONNX nodes of each operator of a network."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from trainables.errors import ConfigError
from trainables.export.onnx_activations import Value, as_float, dequantized, quantize
from trainables.export.onnx_nodes import Nodes
from trainables.export.onnx_weights import LayerWeights, layer_inputs
from trainables.graph.graph import IMAGE, Node
from trainables.graph.operators import Leaf
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Function, Model
from trainables.models.units import ChannelAffine, LinearUnit, NormUnit, QuantPoint, Unit, clips, quant_points, units


class Writer:
    """A view of what a node may use: the graph under construction, and the network with its weights."""

    def __init__(self, nodes: Nodes, network: Model, weights: Mapping[str, LayerWeights]) -> None:
        self.nodes, self.weights, self.network = nodes, weights, network
        self.units, self.points = units(network), quant_points(network)
        layout = network.layout
        self.leaves = {node.name for node in layout.graph.nodes if node.operator == "parameter"}
        self.sizes = {name: layout.size(name) for name in (IMAGE, *(node.name for node in layout.graph.nodes))}
        self.ranks = {name: len(shape) for name, shape in self.sizes.items()}

    def add(self, op: str, *inputs: str, name: str, **attributes: object) -> str:
        """Adds a node and returns its name."""
        return self.nodes.add(op, *inputs, name=name, **attributes)

    def floats(self, name: str, values: Any) -> str:
        """Adds a float32 constant and returns its name."""
        return self.nodes.constant(name, np.asarray(values, np.float32))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Adds an int64 constant and returns its name."""
        return self.nodes.constant(name, np.array(values, np.int64))


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


Form = Callable[[Node, Sequence[str], Writer], str]


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


def _reduce(op: str) -> Form:
    def form(node: Node, x: Sequence[str], writer: Writer) -> str:
        axes = writer.integers(f"{node.name}.axes", node.attributes["dims"])
        return writer.add(op, x[0], axes, name=node.name, keepdims=int(node.attributes["keep"]))

    return form


def _variance(node: Node, x: Sequence[str], writer: Writer) -> str:
    """Adds the mean of squares of what differs from the mean, times n / (n - correction)."""
    dims, name = node.attributes["dims"], node.name
    count = math.prod(writer.sizes[node.inputs[0]][d] for d in dims)
    axes = writer.integers(f"{name}.axes", dims)
    rest = writer.add("Sub", x[0], writer.add("ReduceMean", x[0], axes, name=f"{name}.mean"), name=f"{name}.rest")
    square = writer.add("Mul", rest, rest, name=f"{name}.square")
    kept = int(node.attributes["keep"])
    mean = writer.add("ReduceMean", square, axes, name=f"{name}.squares", keepdims=kept)
    factor = writer.floats(f"{name}.factor", count / (count - node.attributes["correction"]))
    return writer.add("Mul", mean, factor, name=name)


def _reshape(node: Node, x: Sequence[str], writer: Writer) -> str:
    shape = list(node.attributes["shape"])
    if -1 not in shape:
        shape[0] = -1  # the batch
    return writer.add("Reshape", x[0], writer.integers(f"{node.name}.shape", shape), name=node.name)


def _expand(node: Node, x: Sequence[str], writer: Writer) -> str:
    shape = [1 if size == -1 else size for size in node.attributes["shape"]]
    return writer.add("Expand", x[0], writer.integers(f"{node.name}.shape", shape), name=node.name)


def _permute(node: Node, x: Sequence[str], writer: Writer) -> str:
    return writer.add("Transpose", x[0], name=node.name, perm=list(node.attributes["order"]))


def _slice(node: Node, x: Sequence[str], writer: Writer) -> str:
    parts = {"starts": node.attributes["start"], "ends": node.attributes["end"], "axes": node.attributes["dim"]}
    parts["steps"] = node.attributes.get("step", 1)
    named = [writer.integers(f"{node.name}.{part}", [value]) for part, value in parts.items()]
    return writer.add("Slice", x[0], *named, name=node.name)


def _concatenate(node: Node, x: Sequence[str], writer: Writer) -> str:
    dim, ranks = node.attributes["dim"], writer.ranks
    fixed = [name for name in node.inputs if name in writer.leaves]
    if not fixed:
        return writer.add("Concat", *x, name=node.name, axis=dim)
    # A parameter is repeated for each image.
    moving = next(value for name, value in zip(node.inputs, x, strict=True) if name not in fixed)
    first = writer.add("Shape", moving, name=f"{node.name}.batch", start=0, end=1)
    rest = writer.integers(f"{node.name}.ones", [1] * (ranks[node.name] - 1))
    shape = writer.add("Concat", first, rest, name=f"{node.name}.shape", axis=0)
    parts = [
        writer.add("Expand", value, shape, name=f"{node.name}.{i}") if name in fixed else value
        for i, (name, value) in enumerate(zip(node.inputs, x, strict=True))
    ]
    return writer.add("Concat", *parts, name=node.name, axis=dim)


def _pad(node: Node, x: Sequence[str], writer: Writer) -> str:
    ends = writer.integers(f"{node.name}.ends", [*node.attributes["before"], *node.attributes["after"]])
    value = writer.floats(f"{node.name}.value", node.attributes["value"])
    return writer.add("Pad", x[0], ends, value, name=node.name, **_pad_mode(node))


def _pad_mode(node: Node) -> dict[str, Any]:
    names = {"reflect": "reflect", "replicate": "edge"}
    mode = node.attributes.get("mode", "constant")
    return {"mode": names[mode]} if mode in names else {}


def _resize(node: Node, x: Sequence[str], writer: Writer) -> str:
    a, have = node.attributes, writer.sizes[node.inputs[0]][-2:]
    scales = writer.floats(f"{node.name}.scales", [1, 1, *(s / h for s, h in zip(a["size"], have, strict=True))])
    how: dict[str, Any] = {}
    if node.operator == "resize_nearest":
        how |= {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    else:
        place = "align_corners" if a["corners"] else "half_pixel"
        kind = {"bilinear": "linear", "bicubic": "cubic"}[a["mode"]]
        how |= {"mode": kind, "coordinate_transformation_mode": place, "cubic_coeff_a": -0.75}
    return writer.add("Resize", x[0], "", scales, name=node.name, **how)


def _window(node: Node) -> dict[str, Any]:
    a = node.attributes
    padding = 2 * list(a["padding"])
    sizes: dict[str, Any] = {"kernel_shape": list(a["kernel"]), "strides": list(a["stride"])}
    if any(padding):
        sizes["pads"] = padding
    if a["ceil"]:
        sizes["ceil_mode"] = 1
    if tuple(a.get("dilation", (1, 1))) != (1, 1):
        sizes["dilations"] = list(a["dilation"])
    return sizes


def _mean_pool(node: Node, x: Sequence[str], writer: Writer) -> str:
    counts = int(node.attributes["padding_counts"])
    return writer.add("AveragePool", x[0], name=node.name, count_include_pad=counts, **_window(node))


def _adaptive_mean(node: Node, x: Sequence[str], writer: Writer) -> str:
    """Adds products with the shares of rows and of columns that each mean takes, since windows are not alike."""
    (height, width), (rows, columns) = writer.sizes[node.inputs[0]][-2:], node.attributes["size"]
    across = writer.floats(f"{node.name}.columns", _shares(width, columns).T)
    down = writer.floats(f"{node.name}.rows", _shares(height, rows))
    return writer.add("MatMul", down, writer.add("MatMul", x[0], across, name=f"{node.name}.across"), name=node.name)


def _shares(have: int, wanted: int) -> np.ndarray:
    """Returns the share of each of `have` pixels in each of `wanted` means, (wanted, have), as torch's windows lie."""
    shares = np.zeros((wanted, have))
    for i in range(wanted):
        start, end = i * have // wanted, -(-(i + 1) * have // wanted)
        shares[i, start:end] = 1 / (end - start)
    return shares


def _roll(node: Node, x: Sequence[str], writer: Writer) -> str:
    """Adds, for each shift, what lies behind the cut and then what lies before it."""
    y, last = x[0], len(node.attributes["dims"]) - 1
    for i, (shift, dim) in enumerate(zip(node.attributes["shifts"], node.attributes["dims"], strict=True)):
        name = f"{node.name}.{i}"
        cut, axis = writer.integers(f"{name}.cut", [-shift % writer.sizes[node.inputs[0]][dim]]), [dim]
        axes, start = writer.integers(f"{name}.axis", axis), writer.integers(f"{name}.start", [0])
        end = writer.integers(f"{name}.end", [np.iinfo(np.int64).max])
        parts = (
            writer.add("Slice", y, *ends, axes, name=f"{name}.{part}")
            for part, ends in (("behind", (cut, end)), ("before", (start, cut)))
        )
        y = writer.add("Concat", *parts, name=node.name if i == last else name, axis=dim)
    return y


def _batch_norm(node: Node, x: Sequence[str], writer: Writer) -> str:
    unit = writer.network.get_submodule(node.name)
    assert isinstance(unit, NormUnit)
    shape = (1, -1, *[1] * (writer.ranks[node.name] - 2))
    if isinstance(unit.bn, ChannelAffine):
        scale, shift = unit.bn.scale.detach(), unit.bn.shift.detach()
    else:
        bn: Any = unit.bn
        scale = bn.weight.detach() / (bn.running_var + bn.eps).sqrt()
        shift = bn.bias.detach() - bn.running_mean * scale
    product = writer.add(
        "Mul", x[0], writer.floats(f"{node.name}.scale", scale.view(shape)), name=f"{node.name}.product"
    )
    return writer.add("Add", product, writer.floats(f"{node.name}.shift", shift.view(shape)), name=node.name)


def _layer_norm(node: Node, x: Sequence[str], writer: Writer) -> str:
    norm: Any = writer.network.get_submodule(node.name)
    ones = np.ones(norm.normalized_shape, np.float32)
    scale = writer.floats(f"{node.name}.scale", ones if norm.weight is None else norm.weight.detach())
    shift = [] if norm.bias is None else [writer.floats(f"{node.name}.shift", norm.bias.detach())]
    axis = -len(norm.normalized_shape)
    return writer.add("LayerNormalization", x[0], scale, *shift, name=node.name, axis=axis, epsilon=norm.eps)


def _group_norm(node: Node, x: Sequence[str], writer: Writer) -> str:
    norm: Any = writer.network.get_submodule(node.name)
    values = [writer.floats(f"{node.name}.{n}", p.detach()) for n, p in (("scale", norm.weight), ("shift", norm.bias))]
    return writer.add("GroupNormalization", x[0], *values, name=node.name, num_groups=norm.num_groups, epsilon=norm.eps)


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


def _attention(node: Node, x: Sequence[str], writer: Writer) -> str:
    """Adds softmax(q · kᵀ · scale + mask) · v."""
    rank, width = writer.ranks[node.inputs[1]], writer.sizes[node.inputs[0]][-1]
    order = [*range(rank - 2), rank - 1, rank - 2]
    turned = writer.add("Transpose", x[1], name=f"{node.name}.keys", perm=order)
    scores = writer.add("MatMul", x[0], turned, name=f"{node.name}.scores")
    scale = node.attributes["scale"] or width**-0.5
    scores = writer.add("Mul", scores, writer.floats(f"{node.name}.scale", scale), name=f"{node.name}.scaled")
    if len(x) == 4:
        scores = writer.add("Add", scores, x[3], name=f"{node.name}.masked")
    if node.attributes["causal"]:
        later = np.triu(np.full([writer.sizes[name][-2] for name in node.inputs[:2]], -np.inf), k=1)
        scores = writer.add("Add", scores, writer.floats(f"{node.name}.later", later), name=f"{node.name}.causal")
    return writer.add(
        "MatMul", writer.add("Softmax", scores, name=f"{node.name}.shares", axis=-1), x[2], name=node.name
    )


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
    "dropout": lambda n, x, w: x[0],
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "max": _reduce("ReduceMax"),
    "norm": _reduce("ReduceL2"),
    "variance": _variance,
    "max_pool": lambda n, x, w: w.add("MaxPool", x[0], name=n.name, **_window(n)),
    "mean_pool": _mean_pool,
    "adaptive_mean": _adaptive_mean,
    "resize_nearest": _resize,
    "resize": _resize,
    "reshape": _reshape,
    "expand": _expand,
    "permute": _permute,
    "slice": _slice,
    "roll": _roll,
    "concatenate": _concatenate,
    "pad": _pad,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "parameter": _parameter,
    "attention": _attention,
}
"""By operator what adds its ONNX nodes, from float32 inputs."""


def _pool_codes(node: Node, x: Value, writer: Writer) -> Value:
    """Pools the codes themselves where there is such a kernel: quantizing keeps the order."""
    pooled = x if x.is_uint8 else Value(as_float(writer.nodes, x))
    return Value(writer.add("MaxPool", pooled.name, name=node.name, **_window(node)), pooled.grid)


def _pad_codes(node: Node, x: Value, writer: Writer) -> Value:
    """Pads with the code of zero."""
    assert x.grid is not None
    if node.attributes["value"] != 0:
        return Value(_pad(node, [dequantized(writer.nodes, x)], writer))
    ends = writer.integers(f"{node.name}.ends", [*node.attributes["before"], *node.attributes["after"]])
    return Value(writer.add("Pad", x.name, ends, x.grid.names[1], name=node.name, **_pad_mode(node)), x.grid)


def _moved(form: Form) -> Callable[[Node, Value, Writer], Value]:
    return lambda node, x, writer: Value(form(node, [x.name], writer), x.grid)


ON_CODES: dict[str, Callable[[Node, Value, Writer], Value]] = {
    "max_pool": _pool_codes,
    "pad": _pad_codes,
    **{name: _moved(FORMS[name]) for name in ("reshape", "permute", "slice", "roll", "dropout")},
}
"""The operators that work on integer codes as they are."""
