"""ONNX forms of operators that compute one value from many: reductions, norms, attention."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainables.export.onnx.writer import Form, Writer
from trainables.graph.graph import Node
from trainables.models.units import ChannelAffine, NormUnit


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


REDUCTIONS: dict[str, Form] = {
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "max": _reduce("ReduceMax"),
    "norm": _reduce("ReduceL2"),
    "variance": _variance,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "attention": _attention,
}
"""By operator what adds its ONNX nodes."""
