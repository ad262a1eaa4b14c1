"""SGD and Adam over named parameters, by torch's functional forms.

torch.optim's classes compute the same, but their constructors import torch's compiler: 4.3 s in each new
worker on one core, more than a short stage takes. By name, the state is also simple to save.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trainables.config import Schedule
from trainables.models.units import step_names

STEP_RATE = 0.1
"""Step sizes learn ten times slower than weights: at the same rate a 6-bit network on digits lost 26 of its
98.6 points in three epochs, at a tenth it lost none, and 2-bit networks gained 2 to 11 points (single runs)."""


@dataclass(frozen=True)
class Group:
    """Parameters with the same weight decay, and the factor `rate` on their learning rate."""

    parameters: dict[str, nn.Parameter]
    weight_decay: float
    rate: float


def make_optimizer(model: nn.Module, schedule: Schedule) -> "Sgd | Adam":
    """Returns the schedule's optimizer for the parameters of a network."""
    return Adam(model, schedule) if schedule.optimizer == "adam" else Sgd(model, schedule)


def parameter_groups(model: nn.Module, schedule: Schedule) -> list[Group]:
    """Groups parameters by their weight decay: weights of two or more dimensions have it, step sizes never.

    Biases and norms have it where the schedule says so.
    """
    named, of_quantizers = dict(model.named_parameters()), step_names(model)
    steps = {name: p for name, p in named.items() if name in of_quantizers}
    weights = {name: p for name, p in named.items() if name not in steps and p.ndim > 1}
    vectors = {name: p for name, p in named.items() if name not in steps and p.ndim <= 1}
    decay = schedule.weight_decay
    return [
        Group(weights, decay, 1.0),
        Group(vectors, decay if schedule.decay_all else 0.0, 1.0),
        Group(steps, 0.0, STEP_RATE),
    ]


class Sgd:
    """Stochastic gradient descent with momentum, whose buffers are its state."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        nesterov = schedule.nesterov and schedule.momentum > 0
        self._rule: dict[str, Any] = {"momentum": schedule.momentum, "nesterov": nesterov}
        self._groups = parameter_groups(model, schedule)
        self._buffers: dict[str, Tensor | None] = {name: None for name, _ in model.named_parameters()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Updates the parameters with this learning rate from their gradients, which are cleared."""
        for group, used, gradients in _with_gradients(self._groups):
            buffers = [self._buffers[name] for name in used]
            rule = self._rule | {"lr": rate * group.rate, "weight_decay": group.weight_decay}
            sgd(list(used.values()), gradients, buffers, foreach=True, dampening=0.0, maximize=False, **rule)
            self._buffers |= dict(zip(used, buffers, strict=True))

    def state(self) -> dict[str, Tensor]:
        """Returns the momentum of each parameter that was updated, by name."""
        return {name: buffer for name, buffer in self._buffers.items() if buffer is not None}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned; tensors move to their parameter's device."""
        for name, p in (item for group in self._groups for item in group.parameters.items() if item[0] in state):
            self._buffers[name] = torch.empty_like(p).copy_(state[name])


class Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980) with betas 0.9 and 0.999; weight decay enters the gradient."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self._groups = parameter_groups(model, schedule)
        named = dict(model.named_parameters())
        self._means = {name: torch.zeros_like(p) for name, p in named.items()}
        self._squares = {name: torch.zeros_like(p) for name, p in named.items()}
        self._counts = {name: torch.zeros((), dtype=torch.float32) for name in named}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Updates the parameters with this learning rate from their gradients, which are cleared."""
        rule: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
        for group, used, gradients in _with_gradients(self._groups):
            means, squares, counts = (
                [kind[name] for name in used] for kind in (self._means, self._squares, self._counts)
            )
            rule |= {"lr": rate * group.rate, "weight_decay": group.weight_decay}
            adam(list(used.values()), gradients, means, squares, [], counts, foreach=True, **rule)

    def state(self) -> dict[str, Tensor]:
        """Returns first and second moments and step counts, by kind and parameter name."""
        kinds = {"mean": self._means, "square": self._squares, "count": self._counts}
        return {f"{kind}.{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned; tensors move to their parameter's device."""
        for name, own in self.state().items():
            own.copy_(state[name])


def _with_gradients(groups: list[Group]) -> Iterator[tuple[Group, dict[str, nn.Parameter], list[Tensor]]]:
    """Yields each group with its parameters that have a gradient and with these gradients, which it then clears."""
    for group in groups:
        used = {name: p for name, p in group.parameters.items() if p.grad is not None}
        yield group, used, [p.grad for p in used.values() if p.grad is not None]
        for parameter in used.values():
            parameter.grad = None
