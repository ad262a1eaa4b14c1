"""SideInfo: the multiplier and the bias of every output channel of a layer, as the file stores them.

With 16 bits, both are float16, the multiplier relative to the layer's largest one.

With 8 bits, the multiplier is largest · 2^(−spacing · (127 − |code|)) with the code's sign, and 0 for code 0.
The grid covers those channels whose outputs vary: batch norm leaves some whose input is constant, or whose
scale is next to nothing, with multipliers that are many octaves off. The bias is code · unit; an int8 unless
the layer's largest bias makes that unit coarser than the multipliers are, then an int16.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BiasAt = Callable[[Tensor], Tensor]
"""A function of multipliers to the biases that keep the mean of each output; both are (outputs,) float32."""
TINY = 1e-30
"""A multiplier below it counts as zero: small enough to be none, large enough to divide by."""
PLACES = 9
"""Places between the smallest and the largest multiplier whose neighbors are tried as ends of the grid. More: time in
proportion to the square; fewer: a grid that fits less well."""
BIAS_NOISE = 0.01
"""The most noise of int8 biases, relative to the outputs' standard deviation; that of the multipliers is as large."""


@dataclass(frozen=True)
class SideInfo:
    """The stored side information: `multiplier` and `bias` (outputs,) float16, or int8 and int8 or int16.

    `reference` is (1,) float32, the largest |m|, or (3,): the largest |m|, the spacing in octaves, the bias unit.
    """

    reference: Tensor
    multiplier: Tensor
    bias: Tensor

    def exact(self) -> tuple[Tensor, Tensor]:
        """Returns m and b as float32, as the decoder sees them."""
        if self.multiplier.dtype == torch.float16:
            return self.multiplier.float() * self.reference, self.bias.float()
        largest, spacing, unit = self.reference.cpu().double()
        multiplier, bias = _power(self.multiplier.cpu(), largest, spacing), self.bias.cpu().double() * unit
        return multiplier.float().to(self.bias.device), bias.float().to(self.bias.device)


def in_16_bits(multiplier: Tensor, bias_at: BiasAt) -> SideInfo:
    """Rounds m, then the b that goes with it; a value that float16 cannot hold becomes infinite."""
    reference = multiplier.abs().amax().clamp_min(TINY)[None]
    code = (multiplier / reference).half()
    return SideInfo(reference, code, bias_at(code.float() * reference).half())


def in_8_bits(multiplier: Tensor, bias_at: BiasAt, *, spread: Tensor) -> SideInfo:
    """Rounds finite m, then the b that goes with it; `spread` (outputs,) is the variance of each output."""
    largest, spacing = _grid(multiplier.cpu().double(), spread.cpu().double())
    code = _log_code(multiplier.cpu().double(), largest, spacing)
    bias = bias_at(_power(code, largest, spacing).to(multiplier)).cpu().double()
    most = bias.abs().amax().clamp_min(TINY)
    wide = (most / 127).square() / 12 > BIAS_NOISE**2 * spread.mean().cpu().double()
    unit = most / (32_767 if wide else 127)
    bias_code = (bias / unit).round().to(torch.int16 if wide else torch.int8)
    reference = torch.stack([largest, spacing, unit]).float()
    return SideInfo(*(tensor.to(multiplier.device) for tensor in (reference, code, bias_code)))


def _power(code: Tensor, largest: Tensor, spacing: Tensor) -> Tensor:
    """Returns the m of int8 codes, in float64 on CPU, where all devices agree."""
    code = code.double()
    return code.sign() * largest * torch.exp2(spacing * (code.abs() - 127))


def _log_code(multiplier: Tensor, largest: Tensor, spacing: Tensor) -> Tensor:
    """Returns int8 codes of the nearest powers within the grid, or 0 where that is nearer."""
    size = multiplier.abs()
    steps = ((largest / size.clamp_min(TINY)).log2() / spacing).round().clamp(0, 126)
    code = torch.where(size < largest * torch.exp2(-spacing * steps) / 2, 0.0, 127 - steps)
    return (multiplier.sign() * code).to(torch.int8)


def _grid(multiplier: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the largest size and the spacing in octaves that lose least: Σ spread · (relative error of m)².

    Ends are multipliers of the layer, so that rounded ones find the same grid again.
    """
    used = multiplier.abs() > TINY
    if not used.any():
        return multiplier.new_tensor(TINY), multiplier.new_tensor(1.0)
    size = multiplier.abs()[used].log2()
    # The rest matters a little, so that equal losses do not leave it to chance.
    weight = spread[used] + 1e-6 * spread[used].mean() + TINY
    ordered = size.sort().values
    evenly = torch.linspace(float(ordered[0]), float(ordered[-1]), PLACES, dtype=size.dtype)
    above = torch.searchsorted(ordered, evenly).clamp_max(len(ordered) - 1)
    ends = ordered[torch.cat([above, (above - 1).clamp_min(0)])].unique()
    low, high = torch.combinations(ends, with_replacement=True).T
    spacing = ((high - low) / 126).clamp_min(1e-6)
    top, gap = high[:, None], spacing[:, None]
    nearest = top - gap * ((top - size) / gap).round().clamp(0, 126)
    error = (torch.exp2(nearest - size) - 1).abs().clamp_max(1.0)
    best = (weight * error.square()).sum(dim=1).argmin()
    return torch.exp2(high[best]), spacing[best]
