"""Uniform quantizers with a learned step size (LSQ: Esser et al., arXiv 1902.08153)."""

import math

import torch
from torch import Tensor

from trainables.models.quantizer import MIN_STEP, Quantizer
from trainables.quant.kernel import OneStep, Steps, is_dense


def fake_quantize(
    values: Tensor, step: Tensor, qn: int, qp: int, gradient_scale: float, *, max_step: float = math.inf
) -> Tensor:
    """Moves values to the grid of `step`, q·s with q = round(clip(v / s, −Qn, Qp)), halves to even.

    `step` is () for one step, or (C, 1, …) for one per row of `values`; s is its magnitude, at least 1e-8 and at
    most `max_step`. Differentiable in both:

    - of the values: 1 where −Qn < v/s < Qp, else 0 (straight through the rounding);
    - of the step (LSQ, eq. 3): q − v/s inside, −Qn below, Qp above; summed, times `gradient_scale`. A step that
      is held at a bound keeps this gradient, so that it can come back.
    """
    plain = step.ndim == 0 and not values.is_cuda and is_dense(values)
    out: Tensor = (OneStep if plain else Steps).apply(values, step, qn, qp, gradient_scale, max_step)
    return out


def composed(
    values: Tensor,
    step: Tensor,
    low: Tensor,
    high: Tensor,
    ceiling: Tensor,
    gradient_scale: Tensor,
    *,
    binary: bool = False,
) -> Tensor:
    """Computes `fake_quantize` by plain operations that a compiler fuses, with the same values and gradients.

    With `binary` codes are the signs, −1 and 1 (Rastegari et al., arXiv 1603.05279), with the gradients of others.
    `low` and `high`, the ends of the code range, and `ceiling`, the largest step, are () tensors: a graph that was
    compiled for one bit width serves all others.
    """
    held = step.detach().abs().clamp_min(MIN_STEP).minimum(ceiling)
    with torch.no_grad():
        scaled = values * held.reciprocal()
        codes = torch.where(values < 0, low, high) if binary else scaled.round().maximum(low).minimum(high)
        ratio = values / held
        inside = (ratio > low) & (ratio < high)
        of_step = (codes - ratio * inside) * gradient_scale
    # Differences that are zero carry the gradients: |step| passes its own past the bounds.
    of_step = of_step * (step.abs() - step.detach().abs())
    return codes * held + inside * (values - values.detach()) + of_step


class LsqQuantizer(Quantizer):
    """A quantizer that learns its step by gradient descent, like a weight."""

    LEARNS = True

    def forward(self, x: Tensor) -> Tensor:
        # How many values share the step: a tensor's weights, a channel's weights, or one image's activations.
        shared_by = x.numel() if self.weight and self.step.ndim == 0 else x[0].numel()
        if self.binary or torch.compiler.is_compiling():
            scale = (self.high * shared_by).rsqrt()
            return composed(x.float(), self.step, self.low, self.high, self.ceiling, scale, binary=self.binary)
        plain_scale = 1 / math.sqrt(shared_by * self.qp)
        return fake_quantize(x.float(), self.step, self.qn, self.qp, plain_scale, max_step=self.max_step)
