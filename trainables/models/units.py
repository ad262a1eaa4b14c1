"""The building blocks of every model: a weight layer with its norm and activation, and places for quantizers.

A model made of units can be pruned, quantized, folded and packed without tracing its graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import LayerGroup
from trainables.models.quantizer import Quantizer

Role = LayerGroup | Literal["residual", "block_input"]
"""The layer group of a unit or of its output, which decides its bits; sums of residual blocks and what
blocks read from them are roles as well."""


class QuantPoint(nn.Module):
    """A place where a quantizer may sit; the identity until one is put there.

    `limit` is the largest value that can come here, when there is one.
    """

    def __init__(self, role: Role, *, weight: bool = False, signed: bool = False, limit: float | None = None) -> None:
        super().__init__()
        self.role = role
        self.weight = weight
        self.limit = limit
        self.signed = signed or weight
        self.quantizer: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.quantizer is None else self.quantizer(x)


class ConvUnit(nn.Module):
    """A unit of a convolution, batch norm, an activation and an output quantizer; all but the first may be missing.

    Without an output point, the output is left to somebody else, such as the sum of a residual block.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        *,
        role: LayerGroup,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        out_point: QuantPoint | None = None,
    ) -> None:
        super().__init__()
        self.role = role
        self.layer = layer
        self.bn = nn.Identity() if norm is None else norm
        self.activation = nn.Identity() if activation is None else activation
        self.weight_point = QuantPoint(role, weight=True)
        self.out_point: nn.Module = nn.Identity() if out_point is None else out_point

    def forward(self, x: Tensor) -> Tensor:
        y = self.before_activation(x)
        out: Tensor = self.out_point(y if self._quantizer_clips() else self.activation(y))
        return out

    def before_activation(self, x: Tensor) -> Tensor:
        """Returns what the activation gets: the convolution's outputs after the norm."""
        out: Tensor = self.bn(self._convolved(x, self.weight_point(self.layer.weight)))
        return out

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        """Returns the convolution's outputs; a depthwise one with a stride is computed in float32 on a CPU.

        torch 2.15 has no fast kernel for the gradient of its inputs in bf16: 816 channels of 8x8 in batches of 64 took
        94 ms instead of 1.3, and training of a MobileNetV2 (width 1.4, 32x32 input) 1.6 times as long.
        """
        layer = self.layer
        slow = self.depthwise and max(layer.stride) > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not slow:
            return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        x32, w32 = x.float(), weight.float()
        with torch.autocast("cpu", enabled=False):
            y = F.conv2d(x32, w32, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        return y.to(x.dtype)

    def _quantizer_clips(self) -> bool:
        """Whether an unsigned quantizer clips at zero and at its limit, so that the activation changes nothing."""
        return clips(self.out_point) and isinstance(self.activation, nn.ReLU | nn.ReLU6 | nn.Identity)

    @property
    def depthwise(self) -> bool:
        """Whether there is one filter per channel: pruning an output channel then prunes the input channel with it."""
        return self.layer.groups > 1 and self.layer.weight.shape[1] == 1


class LinearUnit(nn.Module):
    """A unit of an input quantizer, a linear layer, an activation and an output quantizer; all but one may be missing.

    The classifier has neither activation nor output quantizer: logits are float.
    """

    def __init__(
        self,
        layer: nn.Linear,
        *,
        role: LayerGroup = "classifier",
        activation: nn.Module | None = None,
        in_point: QuantPoint | None = None,
        out_point: QuantPoint | None = None,
    ) -> None:
        super().__init__()
        self.role = role
        self.layer = layer
        self.activation = nn.Identity() if activation is None else activation
        self.in_point: nn.Module = nn.Identity() if in_point is None else in_point
        self.weight_point = QuantPoint(role, weight=True)
        self.out_point: nn.Module = nn.Identity() if out_point is None else out_point

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_point(self.activation(self.before_activation(x)))
        return out

    def before_activation(self, x: Tensor) -> Tensor:
        """Returns what the activation gets: the layer's outputs from quantized inputs."""
        return F.linear(self.in_point(x), self.weight_point(self.layer.weight), self.layer.bias)


class NormUnit(nn.Module):
    """A batch norm that stands alone: what it reads, others read too, so that it cannot be folded into a layer."""

    def __init__(self, *, dims: int, channels: int, eps: float, momentum: float | None) -> None:
        super().__init__()
        make = nn.BatchNorm2d if dims == 2 else nn.BatchNorm1d
        self.bn: nn.Module = make(channels, eps, momentum)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(x)
        return out


class ChannelAffine(nn.Module):
    """A folded batch norm: one factor and one offset for each channel, both (channels,)."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(scale), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.ndim - 2))
        return x * self.scale.view(shape) + self.shift.view(shape)


def clips(point: nn.Module) -> bool:
    """Whether a quantizer at this point clips negative values."""
    return isinstance(point, QuantPoint) and isinstance(point.quantizer, Quantizer) and not point.signed


Unit = ConvUnit | LinearUnit


def units(model: nn.Module) -> dict[str, Unit]:
    """Returns the weight layers by name, in forward order (the order of registration)."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ConvUnit | LinearUnit)}


def quant_points(model: nn.Module) -> dict[str, QuantPoint]:
    """Returns the places for quantizers by name, in forward order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantPoint)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keeps a network in evaluation mode; afterwards each module has the mode that it had before."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def norm_of(unit: Unit) -> nn.BatchNorm2d | None:
    """Returns the batch norm of a unit; none where it has none, or is folded already."""
    norm = unit.bn if isinstance(unit, ConvUnit) else None
    return norm if isinstance(norm, nn.BatchNorm2d) else None


def initialize_(model: nn.Module) -> None:
    """Draws weights: He initialization of convolutions (fan out) and hidden layers (fan in), a small classifier.

    Nothing happens on the meta device, where random draws would import torch's compiler (4 s).
    """
    for unit in units(model).values():
        if unit.layer.weight.is_meta:
            continue
        if isinstance(unit, ConvUnit):
            nn.init.kaiming_normal_(unit.layer.weight, mode="fan_out")
        elif unit.role != "classifier":
            nn.init.kaiming_normal_(unit.layer.weight)
        else:
            nn.init.normal_(unit.layer.weight, std=0.01)
        if unit.layer.bias is not None:
            nn.init.zeros_(unit.layer.bias)


def count_parameters(model: nn.Module) -> int:
    """Counts weights, biases and the affine part of batch norm; step sizes of quantizers are no parameters here."""
    return sum(p.numel() for _, p in named_parameters(model))


def named_parameters(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Returns the parameters of a network by name, without gradients and without the step sizes of quantizers."""
    steps = step_names(model)
    return [(name, p.detach()) for name, p in model.named_parameters() if name not in steps]


def step_names(model: nn.Module) -> set[str]:
    """Returns the names of those parameters that are step sizes of quantizers, whatever other parts are called."""
    return {f"{name}.{part}" for name, point in quant_points(model).items() for part, _ in point.named_parameters()}
