"""Layout: what a network of an architecture consists of, found once: units, points, prune groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

import torch

from trainables.config import MODELS, Architecture, LayerGroup
from trainables.graph.channels import ChannelGroup, Channels, Coupled, channels_of
from trainables.graph.graph import Graph
from trainables.graph.narrowing import narrowed
from trainables.graph.operators import Shape, shapes
from trainables.graph.trace import graph_of, unused
from trainables.models.fusing import LAYERS, QUANTIZE, Fused, fuse
from trainables.models.placing import Point, Points, place_points, with_points
from trainables.models.prune_groups import PruneGroup
from trainables.models.roles import roles_of


@dataclass(frozen=True)
class Layout:
    """The parts of a network: `graph` has a node for each unit and each point, in the order of computation."""

    graph: Graph
    fused: Fused
    roles: Mapping[str, LayerGroup]
    points: Points
    own_points: Mapping[str, Point]
    """The points that are nodes of `graph`, by name."""
    groups: tuple[PruneGroup, ...]
    shapes: Mapping[str, Shape]
    """The shapes of the nodes before they were joined to units, for one image."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Layout":
        """Returns itself: it never changes, so that copies of a network share it."""
        return self

    def size(self, name: str) -> Shape:
        """Returns the shape of what a node of `graph` computes, for one image."""
        if name in self.fused.units:
            return self.shapes[self.fused.units[name].nodes[-1].name]
        node = next((n for n in self.graph.nodes if n.name == name), None)
        return self.size(node.inputs[0]) if node is not None and node.operator == QUANTIZE else self.shapes[name]


def layout_of(architecture: Architecture) -> Layout:
    """Returns the parts of a network; equal architectures share them."""
    widths = tuple(sorted(architecture.widths.items()))
    return _layout(graph_text(architecture), widths, tuple(sorted(architecture.kept.items())))


def graph_text(architecture: Architecture) -> str:
    """Returns the stored graph of the unpruned network."""
    model = architecture.model
    if model.graph:
        return model.graph
    bare = architecture.model_copy(update={"widths": {}, "kept": {}})
    return _family_graph(bare.model_dump_json())


@lru_cache(maxsize=64)
def _family_graph(architecture_json: str) -> str:
    """Returns the stored graph of a network family's member."""
    architecture = Architecture.model_validate_json(architecture_json)
    with torch.device("meta"):
        module = MODELS[architecture.model.name](architecture)
    return graph_of(module, architecture.image).stored()


def forget() -> None:
    """Lets families be read anew, for those who change one while the program runs."""
    _family_graph.cache_clear()


@lru_cache(maxsize=64)
def _layout(text: str, widths: Sequence[tuple[str, int]], kept: Sequence[tuple[str, Sequence[int]]]) -> Layout:
    channels = channels_of(text)
    names = _group_names(channels)
    graph, groups = narrowed(channels, _kept(channels, names, dict(widths), dict(kept)))
    fused = fuse(graph)
    roles = roles_of(fuse(channels.graph))  # a layer's role stays what it is when channels go
    points = place_points(fused, roles)
    sums = any(group.streams for group in groups)
    named = tuple(_prune_group(name, group, fused, roles, sums) for name, group in zip(names, groups, strict=True))
    pointed, own_points = with_points(fused.graph, points)
    return Layout(pointed, fused, roles, points, own_points, named, shapes(graph))


def narrower(architecture: Architecture, plan: Mapping[str, Sequence[int]]) -> Architecture:
    """Returns the architecture in which each group has the channels that a plan keeps of those that it has now.

    Most networks are known by how many channels each group has left. Where channels are told apart by their place, as
    in halves of a map, `kept` says which ones they are.
    """
    channels = channels_of(graph_text(architecture))
    names = _group_names(channels)
    now = {
        name: architecture.kept.get(name) or tuple(range(g.channels))
        for name, g in zip(names, channels.groups, strict=True)
    }
    now = {name: left[: architecture.widths.get(name, len(left))] for name, left in now.items()}
    left = {name: tuple(now[name][i] for i in plan[name]) if name in plan else now[name] for name in names}
    widths = {**architecture.widths, **{name: len(left[name]) for name in plan}}
    exact, _ = narrowed(channels, {place: left[name] for place, name in enumerate(names)})
    by_count, _ = narrowed(channels, _kept(channels, names, widths, {}))
    kept = {} if exact == by_count else {name: left[name] for name in widths}
    return architecture.model_copy(update={"widths": widths, "kept": kept})


def _kept(
    channels: Channels, names: Sequence[str], widths: Mapping[str, int], kept: Mapping[str, Sequence[int]]
) -> dict[int, Sequence[int]]:
    """Returns the channels left in each group, by its place: the first ones where only a count is known."""
    unknown = sorted((widths.keys() | kept.keys()) - set(names))
    if unknown:
        raise ValueError(f"the network has no group {unknown[0]!r}")
    for name, group in zip(names, channels.groups, strict=True):
        if widths.get(name, 0) > group.channels:
            raise ValueError(f"the group {name!r} has {group.channels} channels, not {widths[name]}")
        if name in kept and (
            len(kept[name]) != widths.get(name)
            or list(kept[name]) != sorted(set(kept[name]))
            or max(kept[name], default=0) >= group.channels
        ):
            raise ValueError(f"the group {name!r} keeps other channels than it has")
    return {place: kept.get(name, range(widths[name])) for place, name in enumerate(names) if name in widths}


def _group_names(channels: Channels) -> list[str]:
    """Names each group after the block that holds all of its units and no other group alone, or after its source."""
    fused = fuse(channels.graph)
    unit_of = {node.name: name for name, plan in fused.units.items() for node in plan.nodes}
    paths, sources = [], []
    for group in channels.groups:
        members = [unit_of.get(c.node, c.node) for c in (*group.sources, *group.sinks)]
        parts = [name.split(".") for name in members]
        common = _common(parts)
        if any(len(p) > len(common) and p[len(common)].isdigit() for p in parts):
            common = []  # a list of layers, not a block
        paths.append(".".join(common))
        sources.append(next(unit_of[c.node] for c in group.sources if c.node in unit_of))
    names: list[str] = []
    for path, source in zip(paths, sources, strict=True):
        alone = path and sum(other == path or other.startswith(f"{path}.") for other in paths) == 1
        names.append(unused(path if alone else source, set(names)))
    return names


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    """Returns what paths have in common from their beginning."""
    same = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    return [names[0] for names in same]


def _prune_group(
    name: str, group: ChannelGroup, fused: Fused, roles: Mapping[str, LayerGroup], sums: bool
) -> PruneGroup:
    unit_of = {node.name: unit for unit, plan in fused.units.items() for node in plan.nodes}

    def by_unit(parts: Sequence[Coupled]) -> tuple[Coupled, ...]:
        found = {unit_of.get(c.node, c.node): c for c in reversed(parts)}
        return tuple(Coupled(unit, c.dim, c.positions) for unit, c in reversed(found.items()))

    sources = by_unit(group.sources)
    layers = [c.node for c in sources if c.node in fused.units]
    head = [n for n in layers if roles[n] == "head" and fused.units[n].layer.operator == LAYERS[0]]
    outer = group.streams or (sums and any(roles[n] in ("first_conv", "projection") for n in layers))
    optional = bool(head) and len(layers) == 1
    return PruneGroup(name, group.channels, sources, by_unit(group.sinks), optional=optional, inner=not outer)
