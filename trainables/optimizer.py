"""SGD with Nesterov momentum over named parameters, by torch's functional form.

torch.optim.SGD computes the same, but its constructor imports torch's compiler: 4.3 s in each new worker on
one core, more than a short stage takes. By name, the state is also simple to save.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from trainables.config import Schedule

STEP_RATE = 0.1
"""Step sizes learn ten times slower than weights: at the same rate a 6-bit network on digits lost 26 of its
98.6 points in three epochs, at a tenth it lost none, and 2-bit networks gained 2 to 11 points (single runs)."""


@dataclass(frozen=True)
class _Group:
    names: list[str]
    parameters: list[nn.Parameter]
    weight_decay: float
    rate: float


class Sgd:
    """Weight decay acts on weights of two or more dimensions only; biases, norms and step sizes have none."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self._momentum = schedule.momentum
        self._buffers: dict[str, Tensor | None] = {name: None for name, _ in model.named_parameters()}
        named = list(model.named_parameters())
        steps = [item for item in named if ".quantizer." in item[0]]
        weights = [item for item in named if ".quantizer." not in item[0] and item[1].ndim > 1]
        vectors = [item for item in named if ".quantizer." not in item[0] and item[1].ndim <= 1]
        self._groups = [
            _group(weights, schedule.weight_decay, 1.0),
            _group(vectors, 0.0, 1.0),
            _group(steps, 0.0, STEP_RATE),
        ]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with this learning rate from the gradients, which are cleared."""
        for group in self._groups:
            used = [(n, p) for n, p in zip(group.names, group.parameters, strict=True) if p.grad is not None]
            buffers = [self._buffers[n] for n, _ in used]
            sgd(
                [p for _, p in used],
                [p.grad for _, p in used if p.grad is not None],
                buffers,
                weight_decay=group.weight_decay,
                momentum=self._momentum,
                lr=rate * group.rate,
                dampening=0.0,
                nesterov=self._momentum > 0,
                maximize=False,
                foreach=True,
            )
            for (name, parameter), buffer in zip(used, buffers, strict=True):
                self._buffers[name] = buffer
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name."""
        return {name: buffer for name, buffer in self._buffers.items() if buffer is not None}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; tensors move to their parameter's device."""
        for group in self._groups:
            for name, parameter in zip(group.names, group.parameters, strict=True):
                if name in state:
                    self._buffers[name] = torch.empty_like(parameter).copy_(state[name])


def _group(items: Iterable[tuple[str, nn.Parameter]], weight_decay: float, rate: float) -> _Group:
    named = list(items)
    return _Group([n for n, _ in named], [p for _, p in named], weight_decay, rate)
