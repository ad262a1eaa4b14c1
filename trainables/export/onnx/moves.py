"""ONNX forms of operators that move values: shapes, slices, concatenations, padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainables.export.onnx.writer import Form, Writer
from trainables.graph.graph import Node
from trainables.graph.operators import DROPOUTS


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


def pad(node: Node, x: Sequence[str], writer: Writer) -> str:
    ends = writer.integers(f"{node.name}.ends", [*node.attributes["before"], *node.attributes["after"]])
    value = writer.floats(f"{node.name}.value", node.attributes["value"])
    return writer.add("Pad", x[0], ends, value, name=node.name, **pad_mode(node))


def pad_mode(node: Node) -> dict[str, Any]:
    names = {"reflect": "reflect", "replicate": "edge"}
    mode = node.attributes.get("mode", "constant")
    return {"mode": names[mode]} if mode in names else {}


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


MOVES: dict[str, Form] = {
    "reshape": _reshape,
    "expand": _expand,
    "permute": _permute,
    "slice": _slice,
    "roll": _roll,
    "concatenate": _concatenate,
    "pad": pad,
    **dict.fromkeys(DROPOUTS, lambda n, x, w: x[0]),
}
"""By operator what adds its ONNX nodes."""
