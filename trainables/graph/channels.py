"""Which channels of a network can only be removed together, found by following each channel through the graph.

Every channel of every tensor carries a label. A layer's outputs get new ones; operators move labels as they move
values (slices, concatenations, shuffles), and where two tensors meet in a sum or a product, the labels that meet are
tied. Labels that are tied are one channel, which leaves all of its layers at once (DepGraph, Fang et al., arXiv
2301.12900, ties layers; here it is single channels). What cannot be followed, such as a softmax over channels or a
layer norm, fixes its channels: they stay.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainables.graph.graph import IMAGE, Graph, Node, read_graph
from trainables.graph.operators import OPERATORS, Shape, shapes

FIXED = 0
"""The label of everything that stays."""
Labels = np.ndarray
"""The label of each element of a tensor for one image, int64; axes on which they do not change have size 1."""


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

    def narrowed(self, kept: Mapping[int, Sequence[int]]) -> tuple[Graph, tuple[ChannelGroup, ...]]:
        """Returns the graph in which each of the given groups, by its place, has only the channels that are kept.

        The groups that come with it are those of this graph, in the same order.
        """
        removed = np.zeros(1 + max(int(labels.max()) for labels in self.labels.values()), dtype=bool)
        for group, channels in kept.items():
            left = set(channels)
            removed[[label for i, label in enumerate(self.members[group]) if i not in left]] = True
        if not removed.any():
            return self.graph, self.groups
        return _narrowed(self, removed), tuple(
            self._left(g, m, removed) for g, m in zip(self.groups, self.members, strict=True)
        )

    def _left(self, group: ChannelGroup, members: Sequence[int], removed: np.ndarray) -> ChannelGroup:
        """Returns what is left of a group, at its places in the narrower network."""
        kept = [i for i, label in enumerate(members) if not removed[label]]

        def moved(coupled: Coupled) -> Coupled:
            labels = self.weights[coupled.node][coupled.dim]
            assert labels is not None
            place = np.cumsum(~removed[labels]) - 1
            positions = tuple(tuple(int(place[p]) for p in coupled.positions[i]) for i in kept)
            return Coupled(coupled.node, coupled.dim, positions)

        sources, sinks = (tuple(map(moved, part)) for part in (group.sources, group.sinks))
        return ChannelGroup(len(kept), sources, sinks, group.streams)


@lru_cache(maxsize=16)
def channels_of(graph_text: str) -> Channels:
    """Returns the channels of a stored graph; see `follow_channels`."""
    return follow_channels(read_graph(graph_text))


def follow_channels(graph: Graph) -> Channels:
    """Follows the channels of a graph, ties those that belong together, and groups them."""
    walk = _Walk(graph, shapes(graph))
    for node in graph.nodes:
        walk.visit(node)
    walk.fix(walk.labels[graph.output])
    return walk.tied()


class _Walk:
    """A walk through the nodes, in which labels are given out, moved and tied."""

    def __init__(self, graph: Graph, sizes: Mapping[str, Shape]) -> None:
        self.graph, self.shapes = graph, sizes
        self.labels: dict[str, Labels] = {IMAGE: np.zeros((1, 1, 1, 1), np.int64)}
        self.count = 1
        self.ties: list[tuple[np.ndarray, np.ndarray]] = []
        self.weights: dict[str, tuple[Labels, Labels | None]] = {}
        self.summed: list[np.ndarray] = []

    def fresh(self, count: int) -> Labels:
        """Gives out new labels, (count,)."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def tie(self, one: Labels, other: Labels) -> None:
        """Makes one channel of labels that meet; axes are broadcast."""
        one, other = np.broadcast_arrays(one, other)
        self.ties.append((one.ravel(), other.ravel()))

    def fix(self, labels: Labels) -> None:
        """Lets channels stay."""
        self.tie(labels, np.zeros(1, np.int64))

    def full(self, name: str) -> Labels:
        """Returns the labels of a node in its whole shape."""
        return np.broadcast_to(self.labels[name], self.shapes[name])

    def along(self, name: str, dim: int) -> Labels:
        """Returns the labels along an axis, (size,); labels that change along any other axis are fixed before."""
        labels = self.labels[name]
        size = self.shapes[name][dim]
        if any(n > 1 for d, n in enumerate(labels.shape) if d != dim % labels.ndim):
            self.fix(labels)
            return np.zeros(size, np.int64)
        return np.broadcast_to(labels.ravel(), (size,))

    def visit(self, node: Node) -> None:
        """Sets the labels of a node from those that it reads."""
        shape, rank = self.shapes[node.name], len(self.shapes[node.name])
        sources = [self.labels[name] for name in node.inputs]
        match node.operator:
            case "conv2d":
                self._convolution(node)
            case "linear":
                inputs = self.along(node.inputs[0], len(self.shapes[node.inputs[0]]) - 1)
                outputs = self.fresh(shape[-1])
                self.weights[node.name] = (outputs, inputs)
                self.labels[node.name] = _on_axis(outputs, rank - 1, rank)
            case "batch_norm":
                channels = self.along(node.inputs[0], 1)
                self.weights[node.name] = (channels, None)
                self.labels[node.name] = _on_axis(channels, 1, rank)
            case "parameter":
                wide = [d for d, size in enumerate(shape) if size > 1]
                channels = self.fresh(shape[wide[0]]) if len(wide) == 1 else np.zeros(1, np.int64)
                if len(wide) == 1:
                    self.weights[node.name] = (channels, None)
                self.labels[node.name] = (
                    _on_axis(channels, wide[0], rank) if len(wide) == 1 else np.zeros((1,) * rank, int)
                )
            case "mean" | "sum" | "max" | "norm" | "variance":
                self._reduce(node, sources[0])
            case "max_pool" | "mean_pool" | "adaptive_mean" | "resize_nearest" | "resize":
                if any(size > 1 for size in sources[0].shape[-2:]):
                    self.fix(sources[0])
                    self.labels[node.name] = np.zeros((1,) * rank, np.int64)
                else:
                    self.labels[node.name] = sources[0]
            case "reshape":
                self._reshape(node)
            case "permute":
                self.labels[node.name] = sources[0].transpose(node.attributes["order"])
            case "slice":
                dim, part = node.attributes["dim"], sources[0]
                ends = slice(node.attributes["start"], node.attributes["end"], node.attributes.get("step", 1))
                place = (slice(None),) * dim + (ends,)
                self.labels[node.name] = part if part.shape[dim] == 1 else part[place]
            case "concatenate":
                dim = node.attributes["dim"]
                beside = np.broadcast_shapes(*((*p.shape[:dim], 1, *p.shape[dim + 1 :]) for p in sources))
                sizes = [self.shapes[name][dim] for name in node.inputs]
                joined = [
                    np.broadcast_to(p, (*beside[:dim], n, *beside[dim + 1 :]))
                    for p, n in zip(sources, sizes, strict=True)
                ]
                self.labels[node.name] = _compact(np.concatenate(joined, dim))
            case "pad":
                self._pad(node, sources[0])
            case "expand":
                self.labels[node.name] = sources[0].reshape((1,) * (rank - sources[0].ndim) + sources[0].shape)
            case _ if OPERATORS[node.operator].pointwise:
                self._meet(node, sources)
            case _:
                for labels in sources:
                    self.fix(labels)
                self.labels[node.name] = np.zeros((1,) * rank, np.int64)

    def _convolution(self, node: Node) -> None:
        groups, (outputs, inputs, *_) = node.attributes["groups"], node.attributes["weight"]
        read = self.along(node.inputs[0], 1)
        made = self.fresh(outputs)
        if groups > 1:
            per_read, per_made = read.reshape(groups, -1), made.reshape(groups, -1)
            if inputs == 1:  # depthwise: an output goes with its input
                self.tie(per_read, per_made)
            else:  # equal groups stay equal: a channel leaves all of them
                self.tie(per_read[:1], per_read)
                self.tie(per_made[:1], per_made)
        reads = None if groups > 1 and inputs == 1 else read[:inputs]
        self.weights[node.name] = (made, reads)
        self.labels[node.name] = _on_axis(made, 1, len(self.shapes[node.name]))

    def _reduce(self, node: Node, labels: Labels) -> None:
        dims, keep = node.attributes["dims"], node.attributes["keep"]
        if any(labels.shape[d] > 1 for d in dims):
            self.fix(labels)
            labels = np.zeros((1,) * labels.ndim, np.int64)
        shape = self.shapes[node.name]
        if not keep:
            labels = labels.reshape([n for d, n in enumerate(labels.shape) if d not in dims] or [1])
        self.labels[node.name] = labels.reshape(labels.shape if labels.ndim == len(shape) else (1,) * len(shape))

    def _reshape(self, node: Node) -> None:
        before, after = self.shapes[node.inputs[0]], self.shapes[node.name]
        moved = self.full(node.inputs[0]).reshape(after)
        labels = _compact(moved)
        # An axis of channels that falls apart stays rectangular: what leaves one part leaves all of them.
        wide = [d for d, size in enumerate(labels.shape) if size > 1]
        source = [d for d, size in enumerate(self.labels[node.inputs[0]].shape) if size > 1]
        if len(wide) > len(source):
            for dim in wide[:-1]:
                self.tie(labels, labels.take([0], dim))
        elif len(wide) == len(source) and [before[d] for d in source] != [after[d] for d in wide] and len(wide) > 1:
            self.fix(labels)
        self.labels[node.name] = labels

    def _pad(self, node: Node, labels: Labels) -> None:
        before, after = node.attributes["before"], node.attributes["after"]
        wide = [d for d in range(labels.ndim) if (before[d] or after[d]) and labels.shape[d] > 1]
        for d in wide:
            shape = [n if k != d else 1 for k, n in enumerate(labels.shape)]
            moved = node.attributes["value"] != 0 or node.attributes.get("mode", "constant") != "constant"
            if moved or any(n > 1 for n in shape):
                self.fix(labels)
            parts = [_on_axis(self.fresh(count), d, labels.ndim) for count in (before[d], after[d])]
            wide_parts = [
                np.broadcast_to(p, [n if k != d else p.shape[d] for k, n in enumerate(labels.shape)]) for p in parts
            ]
            labels = np.concatenate([wide_parts[0], labels, wide_parts[1]], d)
        self.labels[node.name] = labels

    def _meet(self, node: Node, sources: Sequence[Labels]) -> None:
        rank = len(self.shapes[node.name])
        shaped = [labels.reshape((1,) * (rank - labels.ndim) + labels.shape) for labels in sources]
        first = shaped[0]
        for name, other in zip(node.inputs[1:], shaped[1:], strict=True):
            whole = (1,) * (rank - len(self.shapes[name])) + self.shapes[name]
            mine = np.broadcast_shapes(first.shape, other.shape)
            # A tensor with one value for all channels meets none of them.
            if all(size == 1 for size, n in zip(whole, mine, strict=True) if n > 1):
                continue
            have = (1,) * (rank - len(self.shapes[node.inputs[0]])) + self.shapes[node.inputs[0]]
            if all(size == 1 for size, n in zip(have, mine, strict=True) if n > 1):
                first = other
                continue
            self.tie(first, other)
            if node.operator == "add" and not self._is_parameter(node.inputs[0]) and not self._is_parameter(name):
                self.summed.append(first.ravel())
            first = np.broadcast_to(first, mine)
        self.labels[node.name] = _compact(first) if first.size > 1 else first

    def _is_parameter(self, name: str) -> bool:
        return any(node.name == name and node.operator == "parameter" for node in self.graph.nodes)

    def tied(self) -> Channels:
        """Returns the groups: tied labels that run through the same nodes."""
        roots = _roots(self.count, self.ties)
        summed = set(roots[np.concatenate(self.summed)].tolist()) if self.summed else set()
        labels = {name: roots[value] for name, value in self.labels.items()}
        weights = {n: (roots[out], None if read is None else roots[read]) for n, (out, read) in self.weights.items()}
        places: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        for name, (made, read) in weights.items():
            for dim, values in ((0, made), (1, read)):
                for position, label in enumerate(() if values is None else values.tolist()):
                    places[label].append((name, dim, position))
        groups: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for label, found in places.items():
            if label != FIXED and any(dim == 0 for _, dim, _ in found):
                groups[tuple(dict.fromkeys((name, dim) for name, dim, _ in found))].append(label)
        operators = {node.name: node.operator for node in self.graph.nodes}
        made, members = [], []
        for nodes, channels in groups.items():
            coupled = [
                Coupled(n, d, tuple(tuple(p for m, e, p in places[label] if (m, e) == (n, d)) for label in channels))
                for n, d in nodes
            ]
            made.append(
                ChannelGroup(
                    len(channels),
                    tuple(c for c in coupled if c.dim == 0),
                    tuple(c for c in coupled if c.dim == 1),
                    streams=any(label in summed for label in channels),
                )
            )
            members.append(tuple(channels))
        # A parameter alone, or padding, is no channel that a layer makes.
        real = [i for i, g in enumerate(made) if any(operators[c.node] in ("conv2d", "linear") for c in g.sources)]
        groups_found = tuple(made[i] for i in real)
        return Channels(self.graph, self.shapes, groups_found, labels, tuple(members[i] for i in real), weights)


def _roots(count: int, ties: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns the smallest label that each label is tied to."""
    roots = np.arange(count)
    pairs = list(ties)
    if not pairs:
        return roots
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    different = one != other
    one, other = one[different], other[different]
    while True:
        lower = roots.copy()
        least = np.minimum(roots[one], roots[other])
        for side in (one, other):
            np.minimum.at(lower, side, least)
            np.minimum.at(lower, roots[side], least)
        lower = lower[lower]
        if np.array_equal(lower, roots):
            return roots
        roots = lower


def _on_axis(values: np.ndarray, dim: int, rank: int) -> Labels:
    return values.reshape([-1 if d == dim else 1 for d in range(rank)])


def _compact(labels: Labels) -> Labels:
    """Gives axes on which labels do not change size 1."""
    for dim in range(labels.ndim):
        first = labels.take([0], dim)
        if labels.shape[dim] > 1 and (labels == first).all():
            labels = first
    return labels


def _narrowed(channels: Channels, removed: np.ndarray) -> Graph:
    """Returns the graph without the channels whose labels are removed: sizes in attributes are counted again."""

    def left(name: str, dim: int) -> int:
        """Counts what stays along an axis."""
        stays = remains(name, dim)
        return channels.shapes[name][dim] if len(stays) == 1 else int(stays.sum())

    def remains(name: str, dim: int) -> np.ndarray:
        """Says of each place along an axis whether a channel is left there; of one place, where they do not change."""
        labels = channels.labels[name]
        kept: np.ndarray = (~removed[labels]).any(axis=tuple(d for d in range(labels.ndim) if d != dim))
        return kept

    nodes = []
    for node in channels.graph.nodes:
        a, source = node.attributes, node.inputs[0] if node.inputs else ""
        match node.operator:
            case "conv2d":
                made, read = channels.weights[node.name]
                outputs = int((~removed[made]).sum())
                if read is None:
                    inputs, groups = 1, left(source, 1)
                else:
                    inputs, groups = int((~removed[read]).sum()), a["groups"]
                node = node.with_attributes(weight=(outputs, inputs, *a["weight"][2:]), groups=groups)
            case "linear":
                made, read = channels.weights[node.name]
                assert read is not None
                node = node.with_attributes(weight=(int((~removed[made]).sum()), int((~removed[read]).sum())))
            case "batch_norm":
                node = node.with_attributes(channels=left(node.name, 1))
            case "parameter":
                node = node.with_attributes(shape=tuple(left(node.name, d) for d in range(len(a["shape"]))))
            case "reshape" | "expand":
                shape = tuple(size if size == -1 else left(node.name, d) for d, size in enumerate(a["shape"]))
                node = node.with_attributes(shape=shape)
            case "slice":
                stays = remains(source, a["dim"])
                if len(stays) > 1:
                    node = node.with_attributes(**{end: int(stays[: a[end]].sum()) for end in ("start", "end")})
            case "pad":
                before, after = list(a["before"]), list(a["after"])
                for d, size in enumerate(channels.shapes[source]):
                    stays = remains(node.name, d)
                    if len(stays) > 1:
                        before[d], after[d] = int(stays[: before[d]].sum()), int(stays[before[d] + size :].sum())
                node = node.with_attributes(before=tuple(before), after=tuple(after))
        nodes.append(node)
    return Graph(channels.graph.image, tuple(nodes), channels.graph.output)
