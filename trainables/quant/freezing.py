"""Rules that make single parameters stand still while a network learns to be quantized."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.config import Freezing
from trainables.models.units import Unit, units
from trainables.quant.attach import activation_quantizers, weight_quantizer
from trainables.quant.quantizer import Quantizer
from trainables.rules import Moment


class FreezeOscillations:
    """Step rule: a weight that keeps jumping between two codes is fixed at the one it holds longer.

    A change of a code against the direction of its last change is an oscillation; a moving average counts how
    often they come, another one follows the code. When the count passes a threshold that falls by a cosine, the
    weight stays at the rounded average (Nagel et al., arXiv 2203.11086, algorithm 1).
    """

    def __init__(self, model: nn.Module, config: Freezing) -> None:
        self._config = config
        self._units = {
            name: unit
            for name, unit in units(model).items()
            if isinstance(unit.weight_point.quantizer, Quantizer)
            and unit.weight_point.quantizer.bits <= config.max_bits
        }
        self._memory = {name: _Memory(_codes(unit)) for name, unit in self._units.items()}

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Counts oscillations, freezes, and puts frozen weights back where they were frozen."""
        threshold = self._threshold(moment.share)
        for name, unit in self._units.items():
            memory = self._memory[name]
            memory.count(_codes(unit), momentum=self._config.momentum)
            if threshold is not None:
                memory.freeze(threshold)
            frozen = memory.code * weight_quantizer(unit).safe_step()
            unit.layer.weight.copy_(torch.where(memory.frozen, frozen, unit.layer.weight))

    def frozen_share(self) -> float:
        """Of the weights that may freeze, how many are frozen."""
        total = sum(m.frozen.numel() for m in self._memory.values())
        return sum(int(m.frozen.sum()) for m in self._memory.values()) / total if total else 0.0

    def state(self) -> dict[str, Tensor]:
        """What is remembered of each weight, by unit and kind."""
        return {f"{name}.{kind}": t for name, memory in self._memory.items() for kind, t in vars(memory).items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        for name, own in self.state().items():
            own.copy_(state[name])

    def _threshold(self, share: float) -> float | None:
        config = self._config
        if share <= config.start:
            return None
        fall = 0.5 * (1 + math.cos(math.pi * (share - config.start) / (1 - config.start)))
        return config.threshold_end + (config.threshold_start - config.threshold_end) * fall


class _Memory:
    """Of each weight of a layer: last code, direction of its last change, moving averages, whether it is frozen."""

    def __init__(self, codes: Tensor) -> None:
        self.code = codes
        self.direction = torch.zeros_like(codes)
        self.frequency = torch.zeros_like(codes)
        self.average = codes.clone()
        self.frozen = torch.zeros_like(codes, dtype=torch.bool)

    def count(self, codes: Tensor, *, momentum: float) -> None:
        """Takes the codes after a step into account; frozen weights keep theirs."""
        codes = torch.where(self.frozen, self.code, codes)
        change = (codes - self.code).sign()
        oscillates = (change * self.direction < 0).to(codes.dtype)
        self.frequency.lerp_(oscillates, momentum)
        self.average.lerp_(codes, momentum)
        self.direction.copy_(torch.where(change == 0, self.direction, change))
        self.code.copy_(codes)

    def freeze(self, threshold: float) -> None:
        """Freezes what oscillates more often than the threshold."""
        new = (self.frequency > threshold) & ~self.frozen
        self.code.copy_(torch.where(new, self.average.round(), self.code))
        self.frozen |= new


class FreezeSteps:
    """Step rule: the steps of the activations learn no more after a share of the training."""

    def __init__(self, model: nn.Module, after: float) -> None:
        self._steps = [q.step for q in activation_quantizers(model).values() if isinstance(q.step, nn.Parameter)]
        self._after = after
        self._frozen = False

    def after_step(self, moment: Moment) -> None:
        """Stops them when the share is reached."""
        if moment.share >= self._after:
            self._freeze()

    def state(self) -> dict[str, Tensor]:
        """Whether they stand still."""
        return {"frozen": torch.tensor(self._frozen)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        if bool(state["frozen"]):
            self._freeze()

    def _freeze(self) -> None:
        self._frozen = True
        for step in self._steps:
            step.requires_grad_(False)


class GuardChannels:
    """Step rule: a channel whose codes are all zero gets its largest weight back, as one step."""

    def __init__(self, model: nn.Module) -> None:
        self._units = [u for u in units(model).values() if isinstance(u.weight_point.quantizer, Quantizer)]

    def after_step(self, moment: Moment | None = None) -> None:
        """Revives them; a channel of nothing but zeros was pruned and stays as it is."""
        for unit in self._units:
            revive_channels_(unit)

    def state(self) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def load(self, state: object) -> None:
        """Nothing to do, as in `state`."""


@torch.no_grad()
def revive_channels_(unit: Unit) -> int:
    """Moves the largest weight of each channel whose codes are all zero to ±1 step; returns how many there were."""
    weight = unit.layer.weight
    quantizer = weight_quantizer(unit)
    rows = weight.flatten(1)
    largest, place = rows.abs().max(dim=1)
    steps = quantizer.safe_step().flatten().expand(len(rows))
    dead = (quantizer.codes(weight).flatten(1) == 0).all(dim=1) & (largest > 0)
    which = dead.nonzero().flatten()
    if len(which):
        changed = rows.clone()
        changed[which, place[which]] = rows[which, place[which]].sign() * steps[which]
        weight.copy_(changed.view_as(weight))
    return len(which)


def _codes(unit: Unit) -> Tensor:
    quantizer = weight_quantizer(unit)
    weight = unit.layer.weight.detach()
    return (weight / quantizer.safe_step().detach()).clamp(-quantizer.qn, quantizer.qp).round()
