"""Bias correction: the mean output of each channel is put back where the float network had it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainables.data.images import Images
from trainables.models.model import Model
from trainables.models.units import LinearUnit, units

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]
BATCH = 512


@torch.no_grad()
def mean_outputs(model: Model, images: Images) -> dict[str, Tensor]:
    """Mean of each unit's output before its activation, (channels,) by name, over one batch of images."""
    means: dict[str, Tensor] = {}

    def note(name: str, out: Tensor) -> None:
        means[name] = _mean(out)

    _with_hooks(model, images, lambda name, _owner: lambda _module, _args, out: note(name, out))
    return means


@torch.no_grad()
def correct_bias_(model: Model, wanted: Mapping[str, Tensor], images: Images) -> None:
    """Moves batch-norm biases (a linear layer's own) so that mean outputs are `wanted`, first layer first.

    One forward pass: each layer is corrected when it is reached, so the next one already sees what it will get
    (empirical bias correction, Nagel et al., arXiv 1906.04721, section 4.2).
    """

    def corrector(name: str, bias: Tensor) -> Hook:
        def correct(_module: nn.Module, _args: object, out: Tensor) -> Tensor:
            shift = wanted[name] - _mean(out)
            bias.add_(shift)
            return out + shift.view(1, -1, *[1] * (out.ndim - 2))

        return correct

    _with_hooks(model, images, lambda name, owner: corrector(name, owner.bias))


def _with_hooks(model: Model, images: Images, make: Callable[[str, Any], Hook]) -> None:
    model.eval()
    handles: list[RemovableHandle] = []
    for name, unit in units(model).items():
        if isinstance(unit, LinearUnit):
            hook = make(name, unit.layer)
            before = unit.activation.register_forward_pre_hook(lambda at, args, hook=hook: hook(at, args, args[0]))
            handles.append(before)
        else:
            handles.append(unit.bn.register_forward_hook(make(name, unit.bn)))
    try:
        batch, _ = next(images.batches(max(BATCH, len(images))))
        model(batch)
    finally:
        for handle in handles:
            handle.remove()


def _mean(out: Tensor) -> Tensor:
    return out.mean(dim=[d for d in range(out.ndim) if d != 1])
