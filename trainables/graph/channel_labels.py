"""Which channel each element of each tensor of a graph is: labels that are given out, moved and tied.

A layer's outputs get new labels; operators move labels as they move values (slices, concatenations, shuffles), and
where two tensors meet in a sum or a product, the labels that meet are tied. What cannot be followed, such as a softmax
over channels or a layer norm, fixes its channels: they stay.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trainables.graph.graph import IMAGE, Graph, Node
from trainables.graph.operators import OPERATORS, Shape

FIXED = 0
"""The label of everything that stays."""
Labels = np.ndarray
"""The label of each element of a tensor for one image, int64; axes on which they do not change have size 1."""


class LabelWalk:
    """A walk through the nodes of a graph, in which labels are given out, moved and tied.

    `labels` are those of every node, `weights` those of the outputs and inputs of every node with tensors of its own,
    and `summed` those of outputs that are added to others.
    """

    def __init__(self, graph: Graph, sizes: Mapping[str, Shape]) -> None:
        self.graph, self.shapes = graph, sizes
        self.labels: dict[str, Labels] = {IMAGE: np.zeros((1, 1, 1, 1), np.int64)}
        self.weights: dict[str, tuple[Labels, Labels | None]] = {}
        self.summed: list[np.ndarray] = []
        self._count = 1
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        for node in graph.nodes:
            self.visit(node)
        self.fix(self.labels[graph.output])

    def roots(self) -> np.ndarray:
        """Returns the smallest label that each label is tied to, (labels,)."""
        return _roots(self._count, self._ties)

    def fresh(self, count: int) -> Labels:
        """Gives out new labels, (count,)."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def tie(self, one: Labels, other: Labels) -> None:
        """Makes one channel of labels that meet; axes are broadcast."""
        one, other = np.broadcast_arrays(one, other)
        self._ties.append((one.ravel(), other.ravel()))

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
        rank = len(self.shapes[node.name])
        sources = [self.labels[name] for name in node.inputs]
        match node.operator:
            case "conv2d":
                self._convolution(node)
            case "linear":
                self._linear(node)
            case "batch_norm":
                channels = self.along(node.inputs[0], 1)
                self.weights[node.name] = (channels, None)
                self.labels[node.name] = _on_axis(channels, 1, rank)
            case "parameter":
                self._parameter(node)
            case "mean" | "sum" | "max" | "norm" | "variance":
                self._reduce(node, sources[0])
            case "max_pool" | "mean_pool" | "adaptive_mean" | "resize_nearest" | "resize":
                if any(size > 1 for size in sources[0].shape[-2:]):
                    self._stay(node, sources)
                else:
                    self.labels[node.name] = sources[0]
            case "reshape":
                self._reshape(node)
            case "permute":
                self.labels[node.name] = sources[0].transpose(node.attributes["order"])
            case "slice":
                dim, part = node.attributes["dim"], sources[0]
                step = node.attributes.get("step", 1)
                if step != 1 and part.shape[dim] > 1:
                    self.fix(part)  # which channels a narrower slice takes depends on all before them
                ends = slice(node.attributes["start"], node.attributes["end"], step)
                place = (slice(None),) * dim + (ends,)
                self.labels[node.name] = part if part.shape[dim] == 1 else part[place]
            case "concatenate":
                self._concatenate(node, sources)
            case "pad":
                self._pad(node, sources[0])
            case "expand":
                self.labels[node.name] = sources[0].reshape((1,) * (rank - sources[0].ndim) + sources[0].shape)
            case _ if OPERATORS[node.operator].pointwise:
                self._meet(node, sources)
            case _:
                self._stay(node, sources)

    def _stay(self, node: Node, sources: Sequence[Labels]) -> None:
        """Fixes what a node reads and makes."""
        for labels in sources:
            self.fix(labels)
        self.labels[node.name] = np.zeros((1,) * len(self.shapes[node.name]), np.int64)

    def _linear(self, node: Node) -> None:
        shape, before = self.shapes[node.name], self.shapes[node.inputs[0]]
        inputs, outputs = self.along(node.inputs[0], len(before) - 1), self.fresh(shape[-1])
        self.weights[node.name] = (outputs, inputs)
        self.labels[node.name] = _on_axis(outputs, len(shape) - 1, len(shape))

    def _parameter(self, node: Node) -> None:
        shape = self.shapes[node.name]
        wide = [d for d, size in enumerate(shape) if size > 1]
        if len(wide) != 1:
            return self._stay(node, [])
        channels = self.fresh(shape[wide[0]])
        self.weights[node.name] = (channels, None)
        self.labels[node.name] = _on_axis(channels, wide[0], len(shape))

    def _concatenate(self, node: Node, sources: Sequence[Labels]) -> None:
        dim = node.attributes["dim"]
        beside = np.broadcast_shapes(*((*p.shape[:dim], 1, *p.shape[dim + 1 :]) for p in sources))
        sizes = [self.shapes[name][dim] for name in node.inputs]
        joined = [
            np.broadcast_to(p, (*beside[:dim], n, *beside[dim + 1 :])) for p, n in zip(sources, sizes, strict=True)
        ]
        self.labels[node.name] = _compact(np.concatenate(joined, dim))

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
