"""Roles: which group of layers each unit of a graph belongs to, read off its neighbors."""

from collections.abc import Iterator

from trainables.config import LayerGroup
from trainables.graph.graph import Graph, Node
from trainables.models.fusing import UNIT, Fused, UnitPlan


def roles_of(fused: Fused) -> dict[str, LayerGroup]:
    """Returns the layer group of every unit, by name.

    The first convolution and the layer that makes the logits have groups of their own. An `expansion` is a 1x1
    convolution that only a depthwise one reads, a `projection` one without activation that reads a depthwise one. The
    `head` is a layer whose output reaches the classifier through no other layer, if it is a 1x1 convolution, or through
    linear layers alone, if it is one. All others are `conv` or `linear`.
    """
    graph, units = fused.graph, fused.units
    after = {name: set(_reached(graph, name)) for name in units}
    before: dict[str, set[str]] = {name: set() for name in units}
    for name, found in after.items():
        for reader in found & set(units):
            before[reader].add(name)
    order = [node.name for node in graph.nodes if node.operator == UNIT]
    last = {name for name in order if "" in after[name]}
    roles: dict[str, LayerGroup] = {}
    for name in reversed(order):
        head = {n for n in after[name] if roles.get(n) == "head" and units[n].layer.operator == "linear"}
        near = last | head if units[name].layer.operator == "linear" else last
        roles[name] = _role(units[name], name == order[0], name in last, after[name], before[name], fused, near)
    return {name: roles[name] for name in order}


def _role(
    plan: UnitPlan, first: bool, final: bool, after: set[str], before: set[str], fused: Fused, near: set[str]
) -> LayerGroup:
    conv = plan.layer.operator == "conv2d"
    if final:
        return "classifier"
    if not conv:
        return "head" if after <= near else "linear"
    if first:
        return "first_conv"
    if is_depthwise(plan.layer):
        return "depthwise"
    if plan.layer.attributes["weight"][2:] == (1, 1):
        if after and all(is_depthwise(fused.units[name].layer) for name in after):
            return "expansion"
        if plan.activation is None and any(is_depthwise(fused.units[name].layer) for name in before):
            return "projection"
        if after <= near and not _is_summed(fused.graph, plan.name):
            return "head"
    return "conv"


def is_depthwise(layer: Node) -> bool:
    """Whether a layer has one filter, or a few, for each of its input channels."""
    return layer.operator == "conv2d" and layer.attributes["groups"] > 1 and layer.attributes["weight"][1] == 1


def _is_summed(graph: Graph, name: str) -> bool:
    """Whether a unit's output, or what is made of it before the next unit, is added to something."""
    readers = graph.readers()
    front = [name]
    while front:
        for node in readers[front.pop()]:
            if node.operator == "add":
                return True
            front += [node.name] if node.operator != UNIT else []
    return False


def _reached(graph: Graph, name: str) -> Iterator[str]:
    """Yields the units that read a node directly or through other nodes; an empty name for the output."""
    readers = graph.readers()
    seen, front = {name}, [name]
    while front:
        here = front.pop()
        if here == graph.output:
            yield ""
        for node in readers[here]:
            if node.name in seen:
                continue
            seen.add(node.name)
            if node.operator == UNIT:
                yield node.name
            else:
                front.append(node.name)
