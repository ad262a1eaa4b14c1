"""FlatSteps: the steps of many weight quantizers as one vector, beside `FlatWeights`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.models.quantizer import MIN_STEP, Quantizer


class FlatSteps:
    """The steps of weight quantizers, each repeated for so many values: rows, or weights, of its layer."""

    def __init__(self, quantizers: Sequence[Quantizer], counts: Sequence[int]) -> None:
        self._steps = [quantizer.step.detach().view(-1) for quantizer in quantizers]
        sizes = [len(step) for step in self._steps]
        self._most = torch.cat([q.ceiling.expand(size) for q, size in zip(quantizers, sizes, strict=True)])
        repeats = [count // size for count, size in zip(counts, sizes, strict=True) for _ in range(size)]
        place = torch.arange(len(repeats), dtype=torch.int32).repeat_interleave(
            torch.tensor(repeats, dtype=torch.int64)
        )
        self._place = place.to(self._most.device)

    def read(self) -> Tensor:
        """Each value's `safe_step`, (N,)."""
        steps = torch.cat(self._steps).abs_().clamp_min_(MIN_STEP)
        return torch.minimum(steps, self._most).index_select(0, self._place)
