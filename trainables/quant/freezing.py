"""Rules that make single parameters stand still while a network learns to be quantized."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.config import Freezing
from trainables.models.attach import activation_quantizers, quantized_units, weight_quantizer
from trainables.models.quantizer import Quantizer
from trainables.train.flat_weights import FlatSteps, FlatWeights, runs, together
from trainables.train.step_rule import Moment, StepRule


class FreezeOscillations(StepRule):
    """The rule that a weight which keeps jumping between two codes is fixed at the one it holds longer.

    A change of a code against the direction of its last change is an oscillation; a moving average counts how
    often they come, another one follows the code. When the count passes a threshold that falls by a cosine, the
    weight stays at the rounded average (Nagel et al., arXiv 2203.11086, algorithm 1).
    """

    def __init__(self, model: nn.Module, config: Freezing) -> None:
        self._config = config
        named = quantized_units(model)
        quantizers = {name: weight_quantizer(unit) for name, unit in named.items()}
        narrow = sorted((q.bits, name) for name, q in quantizers.items() if q.bits <= config.max_bits and not q.binary)
        groups = together({name: named[name].layer.weight for _, name in narrow})
        self._memories = [_Memory(weights, [quantizers[name] for name in weights]) for weights in groups]

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Counts oscillations, freezes, and puts frozen weights back where they were frozen."""
        threshold = self._threshold(moment.share)
        for memory in self._memories:
            memory.follow_(self._config.momentum, threshold)

    def frozen_share(self) -> float:
        """Returns the share of frozen weights among those that may freeze."""
        total = sum(m.frozen.numel() for m in self._memories)
        return sum(int(m.frozen.sum()) for m in self._memories) / total if total else 0.0

    def state(self) -> dict[str, Tensor]:
        """Returns what is remembered of each weight, by unit and kind."""
        return {name: tensor for memory in self._memories for name, tensor in memory.state().items()}

    def _threshold(self, share: float) -> float | None:
        config = self._config
        if share <= config.start:
            return None
        fall = 0.5 * (1 + math.cos(math.pi * (share - config.start) / (1 - config.start)))
        return config.threshold_end + (config.threshold_start - config.threshold_end) * fall


class _Memory:
    """The memory of each weight of layers, (N,): last code, direction of its change, moving averages, whether frozen.

    The layers are in the order of their widths.
    """

    def __init__(self, weights: Mapping[str, Tensor], quantizers: Sequence[Quantizer]) -> None:
        sizes = [weight.numel() for weight in weights.values()]
        self._weights = FlatWeights(weights)
        self._steps = FlatSteps(quantizers, sizes)
        self._widths = runs([quantizer.qp for quantizer in quantizers], sizes)
        self.code = self._codes(self._weights.values, self._steps.read())
        self.direction = torch.zeros_like(self.code)
        self.frequency = torch.zeros_like(self.code)
        self.average = self.code.clone()
        self.frozen = torch.zeros_like(self.code, dtype=torch.bool)

    def follow_(self, momentum: float, threshold: float | None) -> None:
        """Takes the weights after a step into account; with a threshold, freezes, and puts the frozen ones back."""
        weights, steps = self._weights.read_(), self._steps.read()
        self._count(self._codes(weights, steps), momentum)
        if threshold is not None:
            self._freeze(threshold)
            torch.where(self.frozen, self.code * steps, weights, out=weights)
            self._weights.write_()

    def state(self) -> dict[str, Tensor]:
        """Returns views in each layer's shape, by unit and kind."""
        kinds = ("code", "direction", "frequency", "average", "frozen")
        layers = {kind: self._weights.by_layer(getattr(self, kind)) for kind in kinds}
        return {f"{name}.{kind}": tensor for kind in kinds for name, tensor in layers[kind].items()}

    def _codes(self, weights: Tensor, steps: Tensor) -> Tensor:
        codes = weights / steps
        for highest, start, end in self._widths:
            codes[start:end].clamp_(-highest, highest)
        return codes.round_()

    def _count(self, codes: Tensor, momentum: float) -> None:
        """Counts the changes against the last direction; frozen weights keep their codes."""
        torch.where(self.frozen, self.code, codes, out=codes)
        change = (codes - self.code).sign_()
        oscillates = (change * self.direction).lt_(0)
        self.frequency.lerp_(oscillates, momentum)
        self.average.lerp_(codes, momentum)
        torch.where(change == 0, self.direction, change, out=self.direction)
        self.code = codes

    def _freeze(self, threshold: float) -> None:
        """Freezes the weights that oscillate more often than the threshold."""
        new = (self.frequency > threshold) & ~self.frozen
        torch.where(new, self.average.round(), self.code, out=self.code)
        self.frozen |= new


class FreezeSteps(StepRule):
    """The rule that the steps of activations learn no more after a share of the training."""

    def __init__(self, model: nn.Module, after: float) -> None:
        self._steps = [q.step for q in activation_quantizers(model).values() if isinstance(q.step, nn.Parameter)]
        self._after = after
        self._frozen = False

    def after_step(self, moment: Moment) -> None:
        """Freezes the steps when the share is reached."""
        if moment.share >= self._after:
            self._freeze()

    def state(self) -> dict[str, Tensor]:
        """Returns whether the steps are frozen."""
        return {"frozen": torch.tensor(self._frozen)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Freezes the steps if they were frozen when the state was saved."""
        if bool(state["frozen"]):
            self._freeze()

    def _freeze(self) -> None:
        self._frozen = True
        for step in self._steps:
            step.requires_grad_(False)
