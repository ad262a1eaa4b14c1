"""The graph that is left when channels are removed: sizes in attributes are counted again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.graph.channels import ChannelGroup, Channels, Coupled
from trainables.graph.graph import Graph, Node


def narrowed(channels: Channels, kept: Mapping[int, Sequence[int]]) -> tuple[Graph, tuple[ChannelGroup, ...]]:
    """Returns the graph in which each of the given groups, by its place, has only the channels that are kept.

    The groups that come with it are those of the graph before, in the same order.
    """
    removed = np.zeros(1 + max(int(labels.max()) for labels in channels.labels.values()), dtype=bool)
    for group, places in kept.items():
        left = set(places)
        removed[[label for i, label in enumerate(channels.members[group]) if i not in left]] = True
    if not removed.any():
        return channels.graph, channels.groups
    left_over = _Left(channels, removed)
    nodes = tuple(node.with_attributes(**left_over.attributes(node)) for node in channels.graph.nodes)
    graph = Graph(channels.graph.image, nodes, channels.graph.output)
    return graph, tuple(map(left_over.group, channels.groups, channels.members))


@dataclass(frozen=True)
class _Left:
    """What is left of a graph's channels where some labels, (labels,) of truth values, are removed."""

    channels: Channels
    removed: np.ndarray

    def group(self, group: ChannelGroup, members: Sequence[int]) -> ChannelGroup:
        """Returns what is left of a group, at its places in the narrower network."""
        kept = [i for i, label in enumerate(members) if not self.removed[label]]

        def moved(coupled: Coupled) -> Coupled:
            labels = self.channels.weights[coupled.node][coupled.dim]
            assert labels is not None
            place = np.cumsum(~self.removed[labels]) - 1
            positions = tuple(tuple(int(place[p]) for p in coupled.positions[i]) for i in kept)
            return Coupled(coupled.node, coupled.dim, positions)

        sources, sinks = (tuple(map(moved, part)) for part in (group.sources, group.sinks))
        return ChannelGroup(len(kept), sources, sinks, group.streams)

    def attributes(self, node: Node) -> dict[str, Any]:
        """Returns the attributes of a node that change."""
        a, source = node.attributes, node.inputs[0] if node.inputs else ""
        match node.operator:
            case "conv2d":
                made, read = self._weights(node)
                groups = self._size(source, 1) if read is None else a["groups"]
                return {"weight": (made, 1 if read is None else read, *a["weight"][2:]), "groups": groups}
            case "linear":
                return {"weight": self._weights(node)}
            case "batch_norm":
                return {"channels": self._size(node.name, 1)}
            case "parameter":
                return {"shape": tuple(self._size(node.name, d) for d in range(len(a["shape"])))}
            case "reshape" | "expand":
                return {
                    "shape": tuple(
                        size if size == -1 else self._size(node.name, d) for d, size in enumerate(a["shape"])
                    )
                }
            case "slice":
                stays = self._stays(source, a["dim"])
                return {end: int(stays[: a[end]].sum()) for end in ("start", "end")} if len(stays) > 1 else {}
            case "pad":
                return self._padding(node)
            case _:
                return {}

    def _padding(self, node: Node) -> dict[str, Any]:
        before, after = list(node.attributes["before"]), list(node.attributes["after"])
        for d, size in enumerate(self.channels.shapes[node.inputs[0]]):
            stays = self._stays(node.name, d)
            if len(stays) > 1:
                before[d], after[d] = int(stays[: before[d]].sum()), int(stays[before[d] + size :].sum())
        return {"before": tuple(before), "after": tuple(after)}

    def _weights(self, node: Node) -> tuple[int, int | None]:
        """Counts the outputs that a layer still makes and the inputs that it still reads, if it has any of its own."""
        made, read = self.channels.weights[node.name]
        return int((~self.removed[made]).sum()), None if read is None else int((~self.removed[read]).sum())

    def _size(self, name: str, dim: int) -> int:
        """Counts what stays along an axis."""
        stays = self._stays(name, dim)
        return self.channels.shapes[name][dim] if len(stays) == 1 else int(stays.sum())

    def _stays(self, name: str, dim: int) -> np.ndarray:
        """Says of each place along an axis whether a channel is left there; of one place, where they do not change."""
        labels = self.channels.labels[name]
        kept: np.ndarray = (~self.removed[labels]).any(axis=tuple(d for d in range(labels.ndim) if d != dim))
        return kept
