"""Folding: one multiplier and one bias per output channel, all that a folded unit needs beside its weights.

A conv unit computes BN(conv(x, q·s)); folded, that is conv(x, q)·m + b with m = s·γ/σ and
b = β + (b₀ − μ)·m/s (b₀: the convolution's own bias). A unit whose weight w is not quantized keeps w for q, and
s = 1. Rounding to what the file stores happens here, in the network itself, so that the evaluated network and
the decoded file compute the same function.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.errors import Diverged
from trainables.graph.operators import Leaf
from trainables.models.model import Model
from trainables.models.quantizer import Quantizer
from trainables.models.units import ChannelAffine, ConvUnit, NormUnit, Unit, norm_of, units
from trainables.quant.integer_bias import unit_steps, whole_bias
from trainables.quant.side_info import SideInfo, in_8_bits, in_16_bits, in_32_bits

MAX_ROUNDS = 5
"""Rounding is repeated until nothing changes, which takes two or three rounds; more than this many are no use."""


def folded(model: Model, *, side_bits: int = 16) -> Model:
    """Returns a copy that computes with folded units, as the decoded file does, to the last bit."""
    copy = deepcopy(model).eval()
    steps_by_unit = unit_steps(copy)
    set_floats_(copy, side_floats(copy))
    for name, unit in units(copy).items():
        fold_(unit, weight_codes(unit), side_info(unit, name, side_bits=side_bits), steps_by_unit[name])
    return copy


def fold_(unit: Unit, codes: Tensor, info: SideInfo, unit_step: Tensor | None) -> None:
    """Makes a unit compute with codes · m and b alone: its batch norm and weight quantizer go.

    With a `unit_step` b is moved to what an integer kernel can add (`whole_bias`).
    """
    multiplier, bias = info.exact()
    bias = whole_bias(bias, multiplier, unit_step)
    with torch.no_grad():
        unit.layer.weight.copy_(codes.float() * multiplier.view(-1, *[1] * (codes.ndim - 1)))
    unit.layer.bias = nn.Parameter(bias.clone())
    unit.weight_point.quantizer = None
    if isinstance(unit, ConvUnit):
        unit.bn = nn.Identity()


def weight_codes(unit: Unit) -> Tensor:
    """Returns the codes of a unit's weight, int64, or the float32 weight itself where there is no quantizer."""
    quantizer, weight = unit.weight_point.quantizer, unit.layer.weight.detach()
    return quantizer.codes(weight) if isinstance(quantizer, Quantizer) else weight.float()


@torch.no_grad()
def side_info(unit: Unit, name: str = "the layer", *, side_bits: int = 16) -> SideInfo:
    """Returns the side information of a unit, rounded for storage; messages call it by its name.

    Raises:
        Diverged: a multiplier or bias is not finite, or passes the range of float16.
    """
    affine = _affine(unit)
    multiplier = affine.step * affine.gain
    _check_finite(name, scale=multiplier, bias=affine.bias_at(multiplier), spread=affine.spread)
    if side_bits == 8:
        return in_8_bits(multiplier, affine.bias_at, spread=affine.spread)
    if side_bits == 32:
        return in_32_bits(multiplier, affine.bias_at)
    info = in_16_bits(multiplier, affine.bias_at)
    _check_finite(name, scale=info.multiplier, bias=info.bias)
    return info


def round_side_info_(model: Model, *, side_bits: int = 16) -> None:
    """Moves batch norm (and the classifier's steps and bias) to values the file can hold.

    Rounded values may find another grid than those before, and a bias moves once more to what an integer kernel
    can add: it is done again until nothing changes, two or three times in all. A sparse 2-bit network that was
    rounded once lost a point of accuracy when it was packed.
    """
    found: dict[str, SideInfo] = {}
    for _ in range(MAX_ROUNDS):
        before, found = found, _rounded_(model, side_bits)
        if before and all(_equal(info, before[name]) for name, info in found.items()):
            return


@torch.no_grad()
def _rounded_(model: Model, side_bits: int) -> dict[str, SideInfo]:
    """Rounds once; returns the side information that the network moved to, by unit."""
    steps_by_unit, found = unit_steps(model), {}
    for name, unit in units(model).items():
        affine = _affine(unit)
        found[name] = side_info(unit, name, side_bits=side_bits)
        multiplier, bias = found[name].exact()
        bias = whole_bias(bias, multiplier, steps_by_unit[name])
        bn = norm_of(unit)
        if bn is not None:
            gain = multiplier / affine.step
            bn.weight.copy_(gain * _sigma(bn))
            bn.bias.copy_(bias - affine.center * gain)
        else:
            if unit.layer.bias is not None:
                unit.layer.bias.copy_(bias)
            quantizer = unit.weight_point.quantizer
            if isinstance(quantizer, Quantizer):
                quantizer.step.copy_(multiplier[: quantizer.step.numel()].view_as(quantizer.step))
    return found


def _equal(one: SideInfo, other: SideInfo) -> bool:
    codes = torch.equal(one.multiplier, other.multiplier) and torch.equal(one.bias, other.bias)
    return codes and torch.allclose(one.reference, other.reference, rtol=1e-5, atol=0)


@dataclass(frozen=True)
class _Affine:
    """The affine map after the product with codes: out = (step·conv(x, q) + center)·gain + shift; all (outputs,)."""

    step: Tensor
    gain: Tensor
    center: Tensor
    shift: Tensor
    spread: Tensor

    def bias_at(self, multiplier: Tensor) -> Tensor:
        """Returns the b that goes with a multiplier near step · gain: the mean of the outputs stays where it is."""
        return self.shift + self.center * (multiplier / self.step)


def _check_finite(name: str, **values: Tensor) -> None:
    for what, value in values.items():
        bad = (~torch.isfinite(value.flatten())).nonzero()
        if len(bad):
            raise Diverged(
                f"the {what} of channel {int(bad[0])} of {name} is not finite, or beyond 65,504, the largest number of "
                "float16: lower the learning rate; if nothing was trained, mend the batch norm of that channel."
            )


def _affine(unit: Unit) -> _Affine:
    """Reads the affine map of a unit off its quantizer, its bias and its batch norm."""
    quantizer = unit.weight_point.quantizer
    ones = torch.ones(unit.layer.weight.shape[0], device=unit.layer.weight.device)
    step = quantizer.safe_step().detach().flatten() * ones if isinstance(quantizer, Quantizer) else ones
    own = torch.zeros_like(ones) if unit.layer.bias is None else unit.layer.bias.detach()
    bn = norm_of(unit)
    if bn is None:
        return _Affine(step=step, gain=ones, center=torch.zeros_like(ones), shift=own, spread=ones)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    gamma, sigma = bn.weight.detach(), _sigma(bn)
    return _Affine(
        step=step,
        gain=gamma / sigma,
        center=own - bn.running_mean,
        shift=bn.bias.detach(),
        spread=gamma.square() * bn.running_var / sigma.square(),
    )


def float_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of what a file stores as float16 beside units: norms that stand alone, and parameters."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in _alone(model).items():
        if isinstance(module, NormUnit):
            channels = next(iter(module.bn.parameters())).shape[0]
            shapes |= {f"{name}.scale": (channels,), f"{name}.shift": (channels,)}
        else:
            shapes |= {f"{name}.{part}": tuple(value.shape) for part, value in module.named_parameters()}
    return shapes


@torch.no_grad()
def side_floats(model: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors of `float_shapes`, rounded to float16.

    Raises:
        Diverged: a value passes the range of float16.
    """
    found: dict[str, Tensor] = {}
    for name, module in _alone(model).items():
        if isinstance(module, NormUnit) and isinstance(module.bn, nn.BatchNorm2d | nn.BatchNorm1d):
            bn = module.bn
            assert bn.running_mean is not None
            scale = bn.weight / _sigma(bn)
            found |= {f"{name}.scale": scale.half(), f"{name}.shift": (bn.bias - bn.running_mean * scale).half()}
        else:
            held = module.bn if isinstance(module, NormUnit) else module
            found |= {f"{name}.{part}": p.half() for part, p in held.named_parameters()}
    for name, value in found.items():
        _check_finite(name, value=value)
    return found


@torch.no_grad()
def set_floats_(model: nn.Module, floats: Mapping[str, Tensor]) -> None:
    """Makes norms that stand alone, and parameters, compute with what a file stores of them."""
    for name, module in _alone(model).items():
        if isinstance(module, NormUnit):
            module.bn = ChannelAffine(floats[f"{name}.scale"].float(), floats[f"{name}.shift"].float())
        else:
            for part, parameter in module.named_parameters():
                parameter.copy_(floats[f"{name}.{part}"].float())


def _alone(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the modules with parameters that are no units, by name, in the order of registration."""
    inside = tuple(f"{name}." for name in units(model))
    kinds = (NormUnit, Leaf, nn.LayerNorm, nn.GroupNorm)
    return {n: m for n, m in model.named_modules() if isinstance(m, kinds) and not n.startswith(inside)}


def _sigma(bn: nn.BatchNorm2d | nn.BatchNorm1d) -> Tensor:
    """√(variance + ε) float32, by float64: the last bit of a root of torch's depends on the processor (MKL).

    A root that is off by 2^-52 of its size rounds to the same float32, since no root of a float32 comes as near to the
    middle between two of them.
    """
    assert bn.running_var is not None
    return (bn.running_var + bn.eps).double().sqrt().float()
