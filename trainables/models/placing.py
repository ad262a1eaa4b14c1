"""Where the quantization points of a network are: on each tensor that layers read, once, where it is made.

A tensor is quantized where a kernel has written it: after a unit's activation, after a sum, a product or a
concatenation. A unit's output that only a sum reads is not quantized by itself: the sum is, once. What makes no new
values (maxima, reshapes, slices) keeps the codes. A linear layer quantizes its own input where that comes from a mean
or from another linear layer. What the layers of a block read from the residual stream may be quantized once more for
them alone, to fewer bits than the stream has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.config import LayerGroup
from trainables.graph.graph import IMAGE, Graph, Node
from trainables.graph.operators import DROPOUTS, OPERATORS
from trainables.models.fusing import QUANTIZE, UNIT, Fused
from trainables.models.units import Role

CARRIES = ("max_pool", "reshape", "permute", "slice", *DROPOUTS, "expand", "roll", "pad", "resize_nearest")
"""Operators whose output holds values of their input alone, or zeros."""
READS = (UNIT, "mean", "mean_pool", "adaptive_mean", "batch_norm", "layer_norm", "group_norm", "matmul", "attention")
"""Operators for whose sake a tensor is quantized: they read many values for each that they write."""
POSITIVE = ("relu", "sigmoid", "hardsigmoid", "softmax", "softplus", "exp", "sqrt", "rsqrt", "abs", "norm", "variance")
"""Operators whose output is never negative."""
KEEPS_SIGN = (*CARRIES, "mean", "sum", "max", "mean_pool", "adaptive_mean", "add", "multiply", "divide", "concatenate")
"""Operators whose output is not negative where no input is."""


@dataclass(frozen=True)
class Point:
    """A quantization point: the group that decides its bits, whether values may be negative, and their limit."""

    role: Role
    signed: bool
    limit: float | None = None


@dataclass(frozen=True)
class Points:
    """The points of a network: of units' outputs, of linear units' inputs, and of other nodes, by name.

    `entries` are those of what units read from the residual stream, by the name of the node in the stream.
    """

    outputs: Mapping[str, Point]
    inputs: Mapping[str, Point]
    others: Mapping[str, Point]
    entries: Mapping[str, Point]


def place_points(fused: Fused, roles: Mapping[str, LayerGroup]) -> Points:
    """Returns the quantization points of a fused graph."""
    graph = fused.graph
    nodes, readers = graph.by_name(), graph.readers()
    positive = _positive(fused)
    outputs: dict[str, Point] = {}
    inputs: dict[str, Point] = {}
    others: dict[str, Point] = {}
    for node in graph.nodes:
        if node.operator in CARRIES or node.operator == "parameter" or node.name == graph.output:
            continue
        reading = _reading(graph, readers, node.name)
        if not any(reader.operator in READS for reader in reading):
            continue
        wanted = [r for r in reading if r.operator == UNIT]
        linear = [r for r in wanted if fused.units[r.name].layer.operator == "linear"]
        signed = node.name not in positive
        unit = fused.units.get(node.name)
        if unit is not None and roles[node.name] == "projection":
            others[node.name] = Point("residual", signed)  # a part of the residual stream, even where nothing is added
        elif unit is not None and unit.layer.operator == "conv2d":
            outputs[node.name] = Point(roles[node.name], signed, _limit(unit.activation))
        elif len(reading) == len(linear) == 1:
            inputs[linear[0].name] = Point(roles[linear[0].name], signed)
        elif unit is not None:
            outputs[node.name] = Point(roles[node.name], signed, _limit(unit.activation))
        elif node.operator in ("mean", "adaptive_mean") and not wanted:
            continue  # a mean of a mean, or a gate that no layer reads
        else:
            others[node.name] = Point(_role(node, nodes, wanted, roles), signed, _limit(node))
    entries = {
        name: Point("block_input", point.signed, point.limit)
        for name, point in others.items()
        if point.role == "residual" and any(reader.operator == UNIT for reader in readers[name])
    }
    return Points(outputs, inputs, others, entries)


def with_points(graph: Graph, points: Points) -> tuple[Graph, dict[str, Point]]:
    """Returns the graph with a node for each point that is no unit's, and these points by the names of their nodes.

    Whoever read the tensor reads its codes.
    """
    renamed, entering = dict[str, str](), dict[str, str]()
    nodes: list[Node] = []
    own: dict[str, Point] = {}
    taken = {f"{node.name}.out_point" for node in graph.nodes if node.operator == UNIT}
    taken |= {node.name for node in graph.nodes}
    for node in graph.nodes:
        known = {**renamed, **entering} if node.operator == UNIT else renamed
        nodes.append(Node(node.name, node.operator, tuple(known.get(n, n) for n in node.inputs), node.attributes))
        if node.name in points.others:
            path = f"{node.name.rpartition('.')[0]}.out_point".lstrip(".")
            name = renamed[node.name] = path if path not in taken else _own_point(node)
            nodes.append(Node(name, QUANTIZE, (node.name,)))
            own[name] = points.others[node.name]
            if node.name in points.entries:
                entry = entering[node.name] = f"{name.removesuffix('out_point')}entry_point"
                nodes.append(Node(entry, QUANTIZE, (name,)))
                own[entry] = points.entries[node.name]
            taken |= {name, entering.get(node.name, name)}
    return Graph(graph.image, tuple(nodes), renamed.get(graph.output, graph.output)), own


def _own_point(node: Node) -> str:
    """Names the point of one node; where the node is a module, beside it, since a unit may have an out_point too."""
    is_module = node.operator == UNIT or OPERATORS[node.operator].module is not None
    return f"{node.name}_out_point" if is_module else f"{node.name}.out_point"


def _reading(graph: Graph, readers: Mapping[str, list[Node]], name: str) -> list[Node]:
    """Returns what reads a tensor, also behind operators that carry its values on."""
    found: dict[str, Node] = {}
    for node in readers[name]:
        inner = _reading(graph, readers, node.name) if node.operator in CARRIES else [node]
        found |= {reader.name: reader for reader in inner}
    return list(found.values())


def _role(node: Node, nodes: Mapping[str, Node], wanted: list[Node], roles: Mapping[str, LayerGroup]) -> Role:
    """Sums and concatenations are of the residual stream; everything else has the bits of the layer that reads it."""
    source = node
    while source.operator not in ("add", "concatenate") and len(source.inputs) == 1 and source.inputs[0] != IMAGE:
        source = nodes[source.inputs[0]]
    if source.operator in ("add", "concatenate") or not wanted:
        return "residual"
    return roles[wanted[0].name]


def _positive(fused: Fused) -> set[str]:
    """Returns the nodes whose values are never negative."""
    found: set[str] = set()
    for node in fused.graph.nodes:
        unit = fused.units.get(node.name)
        last = node if unit is None else unit.activation
        if last is None:
            continue
        low = last.attributes.get("low")
        if last.operator in POSITIVE or (last.operator == "clip" and low is not None and low >= 0):
            found.add(node.name)
        elif unit is None and node.operator in KEEPS_SIGN and node.inputs and found.issuperset(node.inputs):
            found |= {node.name} if node.attributes.get("value", 0) >= 0 else set()
    return found


def _limit(node: Node | None) -> float | None:
    """Returns the largest value that an activation lets through, where that is what a quantizer may clip at."""
    if node is not None and node.operator == "clip" and node.attributes["low"] == 0:
        high = node.attributes["high"]
        return None if high is None else float(high)
    return None
