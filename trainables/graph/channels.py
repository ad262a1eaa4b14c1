"""Which channels of a network can only be removed together.

Labels that are tied are one channel, which leaves all of its layers at once (DepGraph, Fang et al., arXiv 2301.12900,
ties layers; here it is single channels). Channels that run through the same nodes are a group.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainables.graph.channel_labels import FIXED, Labels, LabelWalk
from trainables.graph.graph import Graph, read_graph
from trainables.graph.operators import Shape, shapes


@dataclass(frozen=True)
class Coupled:
    """A node whose tensors a group's channels run through: channel i lies at `positions[i]` of axis `dim`."""

    node: str
    dim: int
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that run through the same nodes; any of them can be removed, from all of these nodes at once.

    `sources` produce the channels (the output side of layers, norms, parameters), `sinks` read them. `streams` says
    whether outputs of layers are added up in it, as in a residual stream.
    """

    channels: int
    sources: tuple[Coupled, ...]
    sinks: tuple[Coupled, ...]
    streams: bool


@dataclass(frozen=True)
class Channels:
    """The labels of a graph, tied: `groups` in the order of their first source, and `labels` of every node."""

    graph: Graph
    shapes: Mapping[str, Shape]
    groups: tuple[ChannelGroup, ...]
    labels: Mapping[str, Labels]
    members: tuple[tuple[int, ...], ...]
    weights: Mapping[str, tuple[Labels, Labels | None]]


@lru_cache(maxsize=16)
def channels_of(graph_text: str) -> Channels:
    """Returns the channels of a stored graph; see `follow_channels`."""
    return follow_channels(read_graph(graph_text))


def follow_channels(graph: Graph) -> Channels:
    """Follows the channels of a graph, ties those that belong together, and groups them."""
    sizes = shapes(graph)
    walk = LabelWalk(graph, sizes)
    roots = walk.roots()
    labels = {name: roots[value] for name, value in walk.labels.items()}
    weights = {n: (roots[out], None if read is None else roots[read]) for n, (out, read) in walk.weights.items()}
    summed = set(roots[np.concatenate(walk.summed)].tolist()) if walk.summed else set()
    operators = {node.name: node.operator for node in graph.nodes}
    groups, members = [], []
    for channels, nodes in _together(weights):
        sources, sinks = (tuple(c for c in nodes if c.dim == dim) for dim in (0, 1))
        # A parameter alone, or padding, is no channel that a layer makes.
        if any(operators[source.node] in ("conv2d", "linear") for source in sources):
            streams = any(label in summed for label in channels)
            groups.append(ChannelGroup(len(channels), sources, sinks, streams))
            members.append(channels)
    return Channels(graph, sizes, tuple(groups), labels, tuple(members), weights)


def _together(weights: Mapping[str, tuple[Labels, Labels | None]]) -> Iterator[tuple[tuple[int, ...], list[Coupled]]]:
    """Yields the labels that run through the same nodes, and their places in each of these."""
    places: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for name, (made, read) in weights.items():
        for dim, values in ((0, made), (1, read)):
            for position, label in enumerate(() if values is None else values.tolist()):
                places[label][name, dim].append(position)
    alike: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
    for label, found in places.items():
        if label != FIXED and any(dim == 0 for _, dim in found):
            alike[tuple(found)].append(label)
    for nodes, labels in alike.items():
        yield tuple(labels), [Coupled(n, d, tuple(tuple(places[label][n, d]) for label in labels)) for n, d in nodes]
