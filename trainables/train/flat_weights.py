"""FlatWeights: many layers as one vector, so that a step rule costs a few operations in all, not a few per layer.

On a GPU the time of a small layer's operation is its launch, and a MobileNetV2 has 53 layers.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter

import torch
from torch import Tensor

from trainables.models.quantizer import MIN_STEP, Quantizer

TILE = 65_536
"""The most weights of layers that go together on a CPU: 256 KiB in float32, which fit into a core's cache, so that
every pass but the first reads them from there."""


class FlatWeights:
    """The weights of layers, one after another in `values` (N,), each in memory order: a row is an output channel.

    They are looked up once: a weight may change in place afterwards, but not be replaced. One layer alone is not
    copied: `values` are its weights themselves.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._vectors = [_in_memory_order(weight) for weight in self._weights.values()]
        self._sizes = [len(vector) for vector in self._vectors]
        self._alone = len(self._vectors) == 1
        self.values = self._vectors[0] if self._alone else torch.cat(self._vectors)
        self._parts = list(self.values.split(self._sizes))

    def read_(self) -> Tensor:
        """Copies the layers' weights to `values` and returns these."""
        return self.values if self._alone else torch.cat(self._vectors, out=self.values)

    def write_(self) -> None:
        """Copies `values` to the layers' weights."""
        if not self._alone:
            torch._foreach_copy_(self._vectors, self._parts)

    def by_layer(self, values: Tensor) -> dict[str, Tensor]:
        """Returns views of a vector (N,) in the shape and layout of each layer's weight, by the layer's name."""
        parts = values.split(self._sizes)
        layers = zip(self._weights.items(), parts, strict=True)
        return {name: part.as_strided(w.shape, w.stride(), part.storage_offset()) for (name, w), part in layers}


def together(weights: Mapping[str, Tensor], *, on_cpu: int = TILE) -> list[dict[str, Tensor]]:
    """Groups layers that become one vector each: all of them on a GPU, up to `on_cpu` weights or one on a CPU."""
    groups: list[dict[str, Tensor]] = []
    room = 0
    for name, weight in weights.items():
        if not groups or (not weight.is_cuda and weight.numel() > room):
            groups.append({})
            room = on_cpu
        groups[-1][name] = weight
        room -= weight.numel()
    return groups


def runs(keys: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Returns (key, start, end) of each stretch of layers with equal keys that follow one another in a vector."""
    stretches = groupby(zip(keys, sizes, strict=True), key=itemgetter(0))
    lengths = [(key, sum(size for _, size in group)) for key, group in stretches]
    ends = accumulate(length for _, length in lengths)
    return [(key, end - length, end) for (key, length), end in zip(lengths, ends, strict=True)]


def _in_memory_order(weight: Tensor) -> Tensor:
    """Returns all values of a dense weight as a view: channels last or not, its rows follow one another."""
    return (weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)).view(-1)


class FlatSteps:
    """The steps of weight quantizers as one vector, each repeated for so many values (rows or weights) of its layer."""

    def __init__(self, quantizers: Sequence[Quantizer], counts: Sequence[int]) -> None:
        self._steps = [quantizer.step.detach().view(-1) for quantizer in quantizers]
        sizes = [len(step) for step in self._steps]
        self._most = torch.cat([q.ceiling.expand(size) for q, size in zip(quantizers, sizes, strict=True)])
        repeats = [count // size for count, size in zip(counts, sizes, strict=True) for _ in range(size)]
        self._place = torch.repeat_interleave(torch.tensor(repeats)).int().to(self._most.device)

    def read(self) -> Tensor:
        """Returns the `safe_step` of each value, (N,)."""
        steps = torch.cat(self._steps).abs_().clamp_min_(MIN_STEP)
        return torch.minimum(steps, self._most).index_select(0, self._place)
