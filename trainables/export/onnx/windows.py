"""ONNX forms of operators over windows of a map: pooling, means of any size, resizing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainables.export.onnx.writer import Form, Writer
from trainables.graph.graph import Node


def window(node: Node) -> dict[str, Any]:
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
    return writer.add("AveragePool", x[0], name=node.name, count_include_pad=counts, **window(node))


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


WINDOWS: dict[str, Form] = {
    "max_pool": lambda n, x, w: w.add("MaxPool", x[0], name=n.name, **window(n)),
    "mean_pool": _mean_pool,
    "adaptive_mean": _adaptive_mean,
    "resize_nearest": _resize,
    "resize": _resize,
}
"""By operator what adds its ONNX nodes."""
