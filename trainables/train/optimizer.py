"""SGD and Adam over named parameters, by torch's functional forms.

torch.optim's classes compute the same, but their constructors import torch's compiler: 4.3 s in each new
worker on one core, more than a short stage takes. By name, the state is also simple to save.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trainables.config import Schedule

STEP_RATE = 0.1
"""Step sizes learn ten times slower than weights: at the same rate a 6-bit network on digits lost 26 of its
98.6 points in three epochs, at a tenth it lost none, and 2-bit networks gained 2 to 11 points (single runs)."""


@dataclass(frozen=True)
class Group:
    """Parameters with the same weight decay, and their share of the learning rate."""

    parameters: dict[str, nn.Parameter]
    weight_decay: float
    rate: float

    def used(self) -> dict[str, nn.Parameter]:
        """Those that have a gradient."""
        return {name: p for name, p in self.parameters.items() if p.grad is not None}


class Optimizer(Protocol):
    """Updates parameters from their gradients."""

    def step(self, rate: float) -> None:
        """One update with this learning rate from the gradients, which are cleared."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What is remembered between steps, by parameter name."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; tensors move to their parameter's device."""
        ...


def make_optimizer(model: nn.Module, schedule: Schedule) -> Optimizer:
    """The schedule's optimizer."""
    return Adam(model, schedule) if schedule.optimizer == "adam" else Sgd(model, schedule)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """Weight decay acts on weights of two or more dimensions only; biases, norms and step sizes have none."""
    named = dict(model.named_parameters())
    steps = {name: p for name, p in named.items() if ".quantizer." in name}
    weights = {name: p for name, p in named.items() if name not in steps and p.ndim > 1}
    vectors = {name: p for name, p in named.items() if name not in steps and p.ndim <= 1}
    return [Group(weights, weight_decay, 1.0), Group(vectors, 0.0, 1.0), Group(steps, 0.0, STEP_RATE)]


class Sgd:
    """Stochastic gradient descent with momentum."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self._momentum = schedule.momentum
        self._nesterov = schedule.nesterov and schedule.momentum > 0
        self._groups = parameter_groups(model, schedule.weight_decay)
        self._buffers: dict[str, Tensor | None] = {name: None for name, _ in model.named_parameters()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with this learning rate from the gradients, which are cleared."""
        for group in self._groups:
            used = group.used()
            buffers = [self._buffers[name] for name in used]
            sgd(
                list(used.values()),
                [p.grad for p in used.values() if p.grad is not None],
                buffers,
                weight_decay=group.weight_decay,
                momentum=self._momentum,
                lr=rate * group.rate,
                dampening=0.0,
                nesterov=self._nesterov,
                maximize=False,
                foreach=True,
            )
            self._buffers |= dict(zip(used, buffers, strict=True))
            _clear(used)

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name."""
        return {name: buffer for name, buffer in self._buffers.items() if buffer is not None}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; tensors move to their parameter's device."""
        for group in self._groups:
            for name, parameter in group.parameters.items():
                if name in state:
                    self._buffers[name] = torch.empty_like(parameter).copy_(state[name])


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) with betas 0.9 and 0.999; weight decay enters the gradient."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self._groups = parameter_groups(model, schedule.weight_decay)
        named = dict(model.named_parameters())
        self._means = {name: torch.zeros_like(p) for name, p in named.items()}
        self._squares = {name: torch.zeros_like(p) for name, p in named.items()}
        self._counts = {name: torch.zeros((), dtype=torch.float32) for name in named}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update with this learning rate from the gradients, which are cleared."""
        for group in self._groups:
            used = group.used()
            adam(
                list(used.values()),
                [p.grad for p in used.values() if p.grad is not None],
                [self._means[name] for name in used],
                [self._squares[name] for name in used],
                [],
                [self._counts[name] for name in used],
                foreach=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate * group.rate,
                weight_decay=group.weight_decay,
                eps=1e-8,
                maximize=False,
            )
            _clear(used)

    def state(self) -> dict[str, Tensor]:
        """First and second moments and step counts, by kind and parameter name."""
        kinds = {"mean": self._means, "square": self._squares, "count": self._counts}
        return {f"{kind}.{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`; tensors move to their parameter's device."""
        for name, own in self.state().items():
            own.copy_(state[name])


def _clear(parameters: Mapping[str, nn.Parameter]) -> None:
    for parameter in parameters.values():
        parameter.grad = None
