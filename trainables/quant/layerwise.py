"""Layer by layer: each quantized layer is fitted to its float twin, on the inputs that it really gets.

One forward pass carries every image twice, through the float network and through the quantized one. When a layer is
reached, those before it are done, so that it can make up for their errors too.
"""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy

import torch
from torch import Tensor

from trainables.data.images import Images
from trainables.errors import Diverged
from trainables.models.attach import detach_quantizers_
from trainables.models.model import Model
from trainables.models.quantizer import Quantizer
from trainables.models.units import ConvUnit, LinearUnit, QuantPoint, Unit, norm_of, units
from trainables.quant.gptq import compensated, rounded
from trainables.train.moments import COLUMNS, batch_that_fits, groups_of, input_moments

Fit = Callable[[str, Unit, Unit, Tensor, Tensor], None]
"""A function of a unit's name, the unit, its float twin, the input of the twin and the input of the unit."""


@torch.no_grad()
def fit_layers_(model: Model, images: Images, *, gptq: bool, bias: bool, norms_follow: bool = False) -> None:
    """Fits the weights of each quantized layer by GPTQ, and its bias to the mean output of each channel, as asked.

    The network has calibrated quantizers, and weights that are not rounded: these are the float twin's. What is no
    layer stays as it is. The bias is moved as in Nagel et al., arXiv 1906.04721, section 4.2. GPTQ leaves the mean of a
    layer's error to the bias, or to a batch norm that is measured afterwards (`norms_follow`), where there is one.

    Raises:
        Diverged: a layer's inputs are not finite, or so large that products of two are not.
    """

    def fit(name: str, unit: Unit, twin: Unit, of_twin: Tensor, inputs: Tensor) -> None:
        if gptq and isinstance(quantizer := unit.weight_point.quantizer, Quantizer):
            if not bool(torch.isfinite(inputs).all()):
                raise Diverged(f"the inputs of {name} are not finite: import a network whose outputs are.")
            mean_follows = _bias(unit) is not None if bias else norms_follow and norm_of(unit) is not None
            _round_(name, unit, quantizer, twin, of_twin, inputs, centered=mean_follows)
        if bias and (offset := _bias(unit)) is not None:
            shift = _mean(unit, twin.before_activation(of_twin)) - _mean(unit, unit.before_activation(inputs))
            offset.add_(shift)

    _pass(model, images, fit)


def _pass(model: Model, images: Images, fit: Fit) -> None:
    """Runs each image through the float twin and the network at once, and calls `fit` before a unit computes."""
    twins = deepcopy(model).eval()
    detach_quantizers_(twins)
    named, twin_of = units(model), units(twins)
    inside = {part for unit in named.values() for part in unit.modules()}
    model.eval()

    def compute(name: str, unit: Unit, both: Tensor) -> Tensor:
        of_twin, inputs = both.chunk(2)
        twin = twin_of[name]
        fit(name, unit, twin, of_twin, unit.in_point(inputs) if isinstance(unit, LinearUnit) else inputs)
        return torch.cat([twin.forward(of_twin), unit.forward(inputs)])

    def quantize(point: QuantPoint, both: Tensor) -> Tensor:
        of_twin, inputs = both.chunk(2)
        return torch.cat([of_twin, point.forward(inputs)])

    with ExitStack() as hooks:
        for name, unit in named.items():
            hook = unit.register_forward_hook(lambda of, args, _, name=name: compute(name, of, args[0]))
            hooks.enter_context(hook)
        for part in model.modules():
            if isinstance(part, QuantPoint) and part not in inside:
                hooks.enter_context(part.register_forward_hook(lambda of, args, _: quantize(of, args[0])))
        batch = batch_that_fits(twins, images)
        model(torch.cat([batch, batch]))


def _round_(
    name: str, unit: Unit, quantizer: Quantizer, twin: Unit, of_twin: Tensor, inputs: Tensor, *, centered: bool
) -> None:
    """Replaces a unit's weight by one on the quantizer's grid; zeros stay zeros."""
    weight, groups = twin.layer.weight, groups_of(unit)
    wanted = weight.double().reshape(groups, len(weight) // groups, -1)
    step = quantizer.safe_step().double().expand(len(weight), *[1] * (weight.ndim - 1)).reshape(*wanted.shape[:2], 1)
    found = torch.empty_like(wanted)
    for start in range(0, wanted.shape[-1], COLUMNS):
        part = slice(start, start + COLUMNS)
        moments = input_moments(unit, of_twin, inputs, part, centered=centered)
        if not bool((torch.isfinite(moments.own) & torch.isfinite(moments.cross)).all()):
            raise Diverged(f"products of the inputs of {name} are not finite: import a network with smaller values.")
        old = wanted[..., part]
        new = compensated(old, moments)
        found[..., part] = rounded(new, step, moments, bits=quantizer.bits, keep=old != 0)
    unit.layer.weight.copy_(found.view_as(weight))


def _bias(unit: Unit) -> Tensor | None:
    """Returns what shifts the unit's outputs before its activation, (channels,): the norm's bias, or the layer's."""
    norm = norm_of(unit)
    return unit.layer.bias if norm is None else norm.bias


def _mean(unit: Unit, out: Tensor) -> Tensor:
    """Returns the mean of each channel, (channels,)."""
    channels = 1 if isinstance(unit, ConvUnit) else out.ndim - 1
    return out.mean(dim=[d for d in range(out.ndim) if d != channels])
