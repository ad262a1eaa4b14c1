"""Scores per output channel; the lowest go first."""

from torch import Tensor

from trainables.models.units import ConvUnit


def l1(unit: ConvUnit) -> Tensor:
    """Sum of absolute weights of each filter, (outputs,) float32 (Li et al., arXiv 1608.08710)."""
    return unit.layer.weight.detach().abs().sum(dim=(1, 2, 3))
