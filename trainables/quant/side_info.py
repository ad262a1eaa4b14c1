"""SideInfo: the multiplier and the bias of every output channel of a layer, as the file stores them.

With 32 bits, both are float32. With 16 bits, both are float16, the multiplier relative to the layer's largest one.

With 8 bits, the multiplier is largest · 2^(−spacing · (127 − |code|)) with the code's sign, and 0 for code 0.
The grid covers those channels whose outputs vary: batch norm leaves some whose input is constant, or whose
scale is next to nothing, with multipliers that are many octaves off. The bias is code · unit; an int8 unless
the layer's largest bias makes that unit coarser than the multipliers are, then an int16.

All of it is computed so that every processor finds the same bits (`trainables.arithmetic`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.arithmetic import exp2, log2, total

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
    """The stored side information: `multiplier` and `bias` (outputs,) float32 or float16, or int8 and int8 or int16.

    `reference` is (1,) float32, 1 or the largest |m|, or (3,): the largest |m|, the spacing in octaves, the bias unit.
    """

    reference: Tensor
    multiplier: Tensor
    bias: Tensor

    def exact(self) -> tuple[Tensor, Tensor]:
        """Returns m and b as float32, as the decoder sees them."""
        if self.multiplier.is_floating_point():
            return self.multiplier.float() * self.reference, self.bias.float()
        largest, spacing, unit = self.reference.tolist()
        multiplier = torch.from_numpy(_power(self.multiplier.cpu().numpy(), largest, spacing))
        return multiplier.float().to(self.bias.device), (self.bias.double() * unit).float()


def in_32_bits(multiplier: Tensor, bias_at: BiasAt) -> SideInfo:
    """Keeps m, and the b that goes with it."""
    return SideInfo(torch.ones_like(multiplier[:1]), multiplier.clone(), bias_at(multiplier))


def in_16_bits(multiplier: Tensor, bias_at: BiasAt) -> SideInfo:
    """Rounds m, then the b that goes with it; a value that float16 cannot hold becomes infinite."""
    reference = multiplier.abs().amax().clamp_min(TINY)[None]
    code = (multiplier / reference).half()
    return SideInfo(reference, code, bias_at(code.float() * reference).half())


def in_8_bits(multiplier: Tensor, bias_at: BiasAt, *, spread: Tensor) -> SideInfo:
    """Rounds finite m, then the b that goes with it; `spread` (outputs,) is the variance of each output."""
    sizes, weights = _float64(multiplier), _float64(spread)
    largest, spacing = _grid(sizes, weights)
    code = _log_code(sizes, largest, spacing)
    bias = _float64(bias_at(torch.from_numpy(_power(code, largest, spacing)).to(multiplier)))
    most = max(float(np.abs(bias).max()), TINY)
    wide = (most / 127) * (most / 127) / 12 > BIAS_NOISE**2 * _mean(weights)
    unit = most / (32_767 if wide else 127)
    bias_code = np.rint(bias / unit).astype(np.int16 if wide else np.int8)
    reference = np.array([largest, spacing, unit], np.float32)
    return SideInfo(*(torch.from_numpy(array).to(multiplier.device) for array in (reference, code, bias_code)))


def _power(code: np.ndarray, largest: float, spacing: float) -> np.ndarray:
    """Returns the m of int8 codes, float64; not finite where a damaged file's grid is not."""
    code = code.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        powers: np.ndarray = np.sign(code) * largest * exp2(spacing * (np.abs(code) - 127))
    return powers


def _log_code(multiplier: np.ndarray, largest: float, spacing: float) -> np.ndarray:
    """Returns int8 codes of the nearest powers within the grid, or 0 where that is nearer."""
    size = np.abs(multiplier)
    steps = np.rint(log2(largest / np.maximum(size, TINY)) / spacing).clip(0, 126)
    code = np.where(size < largest * exp2(-spacing * steps) / 2, 0.0, 127 - steps)
    signed: np.ndarray = (np.sign(multiplier) * code).astype(np.int8)
    return signed


def _grid(multiplier: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """Finds the largest size and the spacing in octaves that lose least: Σ spread · (relative error of m)².

    Ends are multipliers of the layer, so that rounded ones find the same grid again.
    """
    used = np.abs(multiplier) > TINY
    if not used.any():
        return TINY, 1.0
    size = log2(np.abs(multiplier[used]))
    # The rest matters a little, so that equal losses do not leave it to chance.
    weight = spread[used] + 1e-6 * _mean(spread[used]) + TINY
    ordered = np.sort(size)
    evenly = np.linspace(ordered[0], ordered[-1], PLACES)
    above = np.searchsorted(ordered, evenly).clip(max=len(ordered) - 1)
    ends = np.unique(ordered[np.concatenate([above, (above - 1).clip(min=0)])])
    first, last = np.triu_indices(len(ends))
    low, high = ends[first], ends[last]
    spacing = ((high - low) / 126).clip(min=1e-6)
    top, gap = high[:, None], spacing[:, None]
    nearest = top - gap * np.rint((top - size) / gap).clip(0, 126)
    error = np.abs(exp2(nearest - size) - 1).clip(max=1.0)
    best = total(weight * (error * error)).argmin()
    return float(exp2(high[best])), float(spacing[best])


def _mean(values: np.ndarray) -> float:
    return float(total(values)) / len(values)


def _float64(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
