"""DynamicQuantizer: activations on a grid that each batch brings along."""

import torch
from torch import Tensor, nn

from trainables.models.quantizer import MIN_STEP


class DynamicQuantizer(nn.Module):
    """A quantizer of unsigned codes, 0 for the smallest value of a batch and 2^bits − 1 for the largest.

    Nothing is calibrated, learned or stored. The gradient passes unchanged, since no value is clipped.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        values = x.detach()
        low, high = values.aminmax()
        step = ((high - low) / (2**self.bits - 1)).clamp_min(MIN_STEP)
        rounded = torch.round((values - low) / step).mul_(step).add_(low)
        return x + (rounded - values)
