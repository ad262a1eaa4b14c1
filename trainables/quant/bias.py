"""Bias correction: the mean output of each channel is put back where the float network had it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from trainables.data.images import Images
from trainables.models.model import Model
from trainables.models.units import ConvUnit, norm_of, units

Hook = Callable[[str, Any, Tensor], Tensor | None]
"""A function of a unit's name, the module that owns its bias, and its output, which it may replace."""


@torch.no_grad()
def mean_outputs(model: Model, images: Images) -> dict[str, Tensor]:
    """Returns the mean of each unit's output before its activation, (channels,) by name, over one batch of images."""
    means: dict[str, Tensor] = {}

    def note(name: str, _owner: Any, out: Tensor) -> None:
        means[name] = _mean(out)

    _with_hook(model, images, note)
    return means


@torch.no_grad()
def correct_bias_(model: Model, wanted: Mapping[str, Tensor], images: Images) -> None:
    """Moves batch-norm biases (a linear layer's own) so that mean outputs are `wanted`, first layer first.

    One forward pass: each layer is corrected when it is reached, so the next one already sees what it will get
    (empirical bias correction, Nagel et al., arXiv 1906.04721, section 4.2).
    """

    def correct(name: str, owner: Any, out: Tensor) -> Tensor:
        shift = wanted[name] - _mean(out)
        owner.bias.add_(shift)
        return out + (shift.view(1, -1, 1, 1) if out.ndim == 4 else shift)

    _with_hook(model, images, correct)


def _with_hook(model: Model, images: Images, hook: Hook) -> None:
    """Runs one batch through the network, with a hook at the place of each unit's output before its activation."""
    model.eval()
    with ExitStack() as hooks:
        for name, unit in units(model).items():
            owner = norm_of(unit) or unit.layer
            if owner.bias is None:
                continue  # nothing of it can be moved
            if isinstance(unit, ConvUnit):
                handle = unit.bn.register_forward_hook(lambda _, x, out, n=name, of=owner: hook(n, of, out))
            else:
                handle = unit.activation.register_forward_pre_hook(lambda _, x, n=name, of=owner: hook(n, of, x[0]))
            hooks.enter_context(handle)
        batch, _ = next(images.batches(len(images)))
        model(batch)


def _mean(out: Tensor) -> Tensor:
    channels = 1 if out.ndim == 4 else out.ndim - 1
    return out.mean(dim=[d for d in range(out.ndim) if d != channels])
