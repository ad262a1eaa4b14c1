"""Units by pattern: a convolution or linear layer of a graph, with the norm and the activation that follow it alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.graph.graph import Graph, Node
from trainables.graph.operators import DROPOUTS, OPERATORS

UNIT, QUANTIZE = "unit", "quantize"
"""The operators of a fused graph beside those of every graph: a unit, and a quantization point by itself."""
LAYERS = ("conv2d", "linear")
"""The operators with weights that are pruned and quantized."""
LINEAR = (*DROPOUTS, "scale")
"""Operators of one input, value by value, that are no activations."""


@dataclass(frozen=True)
class UnitPlan:
    """The nodes that one unit computes: a layer, the norm and the activation after it, where there are some."""

    name: str
    layer: Node
    norm: Node | None = None
    activation: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order."""
        return tuple(node for node in (self.layer, self.norm, self.activation) if node is not None)


@dataclass(frozen=True)
class Fused:
    """A graph whose layers, norms and activations are units: each is a node of the operator `unit`."""

    graph: Graph
    units: Mapping[str, UnitPlan]


def fuse(graph: Graph) -> Fused:
    """Joins each layer with the batch norm and the activation that alone read it.

    A unit is named after the module that holds the layer and its norm, and nothing else, else after the layer.
    """
    readers = graph.readers()

    def only_reader(node: Node) -> Node | None:
        reading = readers[node.name]
        single = len(reading) == 1 and reading[0].inputs.count(node.name) == 1 and node.name != graph.output
        return reading[0] if single else None

    plans: list[UnitPlan] = []
    for node in graph.nodes:
        if node.operator in LAYERS:
            last, norm = node, only_reader(node)
            if norm is not None and (norm.operator, node.operator) == ("batch_norm", "conv2d"):
                last = norm
            else:
                norm = None
            activation = only_reader(last)
            if activation is not None and not _is_activation(activation):
                activation = None
            plans.append(UnitPlan(node.name, node, norm, activation))
    names = _names(graph, plans)
    named = {names[p.name]: UnitPlan(names[p.name], p.layer, p.norm, p.activation) for p in plans}
    place = {node.name: (plan, node) for plan in named.values() for node in plan.nodes}
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        found = place.get(node.name)
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if found is None:
            nodes.append(Node(node.name, node.operator, inputs, node.attributes))
            continue
        plan, _ = found
        if node is plan.layer:
            nodes.append(Node(plan.name, UNIT, inputs))
        renamed[node.name] = plan.name
    return Fused(Graph(graph.image, tuple(nodes), renamed.get(graph.output, graph.output)), named)


def _is_activation(node: Node) -> bool:
    return OPERATORS[node.operator].pointwise and len(node.inputs) == 1 and node.operator not in LINEAR


def _names(graph: Graph, plans: list[UnitPlan]) -> dict[str, str]:
    """Returns the name of each unit by that of its layer."""
    others = {node.name for node in graph.nodes} - {node.name for plan in plans for node in plan.nodes}
    names: dict[str, str] = {}
    for plan in plans:
        path = plan.layer.name.rpartition(".")[0]
        own = {node.name for node in plan.nodes}
        inside = {node.name for node in graph.nodes if node.name.startswith(f"{path}.")}
        free = path and path not in others and path not in names.values()
        alone = free and plan.norm is not None and plan.norm.name.startswith(f"{path}.") and inside <= own
        names[plan.layer.name] = path if alone else plan.layer.name
    return names
