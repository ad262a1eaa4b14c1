"""WeightAverage: an exponential moving average of a network's parameters while it trains."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """A moving average of parameters by name, with decay min(decay, (1 + n) / (10 + n)) after n updates.

    The smaller decay at the start lets short runs forget where they came from. Batch-norm statistics are not
    averaged: whoever takes the average decides between the last ones and new ones.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._count = 0
        self._parameters = dict(model.named_parameters())
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the present parameters."""
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        self._count += 1
        now = [p.detach() for p in self._parameters.values()]
        torch._foreach_lerp_(list(self._average.values()), now, 1 - decay)

    @torch.no_grad()
    def copy_to_model_(self) -> None:
        """Sets the parameters of the network to their average."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._average[name])

    def state(self) -> dict[str, Tensor]:
        """Returns the average by parameter name and, under "count", the number of updates."""
        return {**self._average, "count": torch.tensor(self._count)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned; tensors move to their parameter's device."""
        self._count = int(state["count"])
        for name, average in self._average.items():
            average.copy_(state[name])
