"""Masks on single weights: applied while training, held afterwards, and read off a network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.errors import ArtifactMismatch
from trainables.models.units import units
from trainables.train.flat_weights import FlatWeights, together
from trainables.train.step_rule import Moment, StepRule


class MaskedWeight(nn.Module):
    """A mask that zeroes weights in the forward pass only: all of them go on learning, so that one may come back.

    It sits at a weight's quantization point while the network is still float.
    """

    mask: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(like, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (weight * self.mask - weight).detach()


class HoldZeros(StepRule):
    """The rule that weights which are zero when it is made stay zero."""

    def __init__(self, model: nn.Module) -> None:
        sparse = {name: weight for name, weight in weights_of(model).items() if bool((weight == 0).any())}
        self._weights = [FlatWeights(layers) for layers in together(sparse, on_cpu=0)]
        self._zeros = [weights.values == 0 for weights in self._weights]

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Sets the held weights to zero again."""
        for weights, zeros in zip(self._weights, self._zeros, strict=True):
            weights.read_().masked_fill_(zeros, 0.0)
            weights.write_()

    def state(self) -> dict[str, Tensor]:
        """Returns which weights are held, by unit."""
        parts = zip(self._weights, self._zeros, strict=True)
        return {name: zero for weights, zeros in parts for name, zero in weights.by_layer(zeros).items()}


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the masked weights of the named units to zero for good."""
    named = units(model)
    for name, mask in masks.items():
        named[name].layer.weight.mul_(mask)


def zero_share(weights: Mapping[str, Tensor]) -> float:
    """Returns the share of zeros among all weights of these tensors; 0 when there is none."""
    total = sum(w.numel() for w in weights.values())
    return sum(int((w == 0).sum()) for w in weights.values()) / total if total else 0.0


def check_zeros(before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, where: str) -> None:
    """Raises ArtifactMismatch if a weight that was zero is not any more; tensors by unit, in equal shapes."""
    for name, weight in before.items():
        if back := int(((weight == 0) & (after[name].to(weight.device) != 0)).sum()):
            raise ArtifactMismatch(f"{back:,} weights of {name} that were zero are not zero {where}")


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns the weight of every unit, by name."""
    return {name: unit.layer.weight.detach() for name, unit in units(model).items()}
