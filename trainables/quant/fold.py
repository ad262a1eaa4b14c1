"""Folding: one multiplier and one bias per output channel, all that a folded unit needs beside codes.

A conv unit computes BN(conv(x, q·s)); folded, that is conv(x, q)·m + b with m = s·γ/σ and
b = β + (b₀ − μ)·γ/σ (b₀: the convolution's own bias). The file stores m relative to the layer's largest one,
and b, as float16. Rounding happens here, in the network itself, so that the evaluated network and the
decoded file compute the same function.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.errors import Diverged
from trainables.models.model import Model
from trainables.models.units import ConvUnit, Unit, units
from trainables.quant.attach import weight_quantizer


@dataclass(frozen=True)
class SideInfo:
    """`reference` () float32; `multiplier` and `bias` (outputs,) float16; multiplier·reference is m."""

    reference: Tensor
    multiplier: Tensor
    bias: Tensor

    def exact(self) -> tuple[Tensor, Tensor]:
        """m and b as float32, as the decoder sees them."""
        return self.multiplier.float() * self.reference, self.bias.float()


def folded(model: Model) -> Model:
    """A copy that computes with folded units, as the decoded file does, to the last bit."""
    copy = deepcopy(model).eval()
    for unit in units(copy).values():
        quantizer = weight_quantizer(unit)
        fold_(unit, quantizer.codes(unit.layer.weight), side_info(unit))
    return copy


def fold_(unit: Unit, codes: Tensor, info: SideInfo) -> None:
    """Makes a unit compute with codes · m and b alone: its batch norm and weight quantizer go."""
    multiplier, bias = info.exact()
    with torch.no_grad():
        unit.layer.weight.copy_(codes.float() * multiplier.view(-1, *[1] * (codes.ndim - 1)))
    unit.layer.bias = nn.Parameter(bias.clone())
    unit.weight_point.quantizer = None
    if isinstance(unit, ConvUnit):
        unit.bn = nn.Identity()


def side_info(unit: Unit) -> SideInfo:
    """The side information of a quantized unit, rounded for storage.

    Raises:
        Diverged: a multiplier or bias is not finite in float16.
    """
    multiplier, bias = _folded(unit)
    reference = multiplier.abs().amax().clamp_min(1e-30)
    info = SideInfo(reference, (multiplier / reference).half(), bias.half())
    if not all(bool(torch.isfinite(t).all()) for t in (reference, info.multiplier, info.bias)):
        raise Diverged("a batch-norm scale or bias is not finite in float16: lower the learning rate.")
    return info


@torch.no_grad()
def round_side_info_(model: nn.Module) -> None:
    """Moves batch norm (and the classifier's steps and bias) to the nearest values the file can hold."""
    for unit in units(model).values():
        multiplier, bias = side_info(unit).exact()
        if isinstance(unit, ConvUnit):
            sigma, mean, step = _statistics(unit)
            assert isinstance(unit.bn, nn.BatchNorm2d)
            gain = multiplier / step  # γ/σ
            own = unit.layer.bias if unit.layer.bias is not None else torch.zeros_like(mean)
            unit.bn.weight.copy_(gain * sigma)
            unit.bn.bias.copy_(bias - (own - mean) * gain)
        else:
            quantizer = weight_quantizer(unit)
            quantizer.step.copy_(multiplier.view_as(quantizer.step))
            unit.layer.bias.copy_(bias)


@torch.no_grad()
def _folded(unit: Unit) -> tuple[Tensor, Tensor]:
    """m and b of the file's docstring, (outputs,) float32."""
    if not isinstance(unit, ConvUnit):
        quantizer = weight_quantizer(unit)
        return quantizer.safe_step().flatten(), unit.layer.bias.detach()
    assert isinstance(unit.bn, nn.BatchNorm2d)
    sigma, mean, step = _statistics(unit)
    gain = unit.bn.weight / sigma
    own = unit.layer.bias if unit.layer.bias is not None else torch.zeros_like(mean)
    return step * gain, unit.bn.bias + (own - mean) * gain


def _statistics(unit: ConvUnit) -> tuple[Tensor, Tensor, Tensor]:
    """σ, μ and the weight step of each channel."""
    assert isinstance(unit.bn, nn.BatchNorm2d)
    assert unit.bn.running_var is not None
    assert unit.bn.running_mean is not None
    quantizer = weight_quantizer(unit)
    return (unit.bn.running_var + unit.bn.eps).sqrt(), unit.bn.running_mean, quantizer.safe_step().flatten()
