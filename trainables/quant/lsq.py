"""Uniform quantizers with a learned step size (LSQ: Esser et al., arXiv 1902.08153)."""

import math

import torch
from torch import Tensor, nn

from trainables.quant.kernel import MIN_STEP, OneStep, Steps, is_dense


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """(Qn, Qp): codes lie in [−Qn, Qp]. Signed codes are symmetric; −2^(b−1) stays unused."""
    return (2 ** (bits - 1) - 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def fake_quantize(
    values: Tensor, step: Tensor, qn: int, qp: int, gradient_scale: float, *, max_step: float = math.inf
) -> Tensor:
    """Values on the grid of `step`, q·s with q = round(clip(v / s, −Qn, Qp)), halves to even.

    `step` is () for one step, or (C, 1, …) for one per row of `values`; s is its magnitude, at least 1e-8 and at
    most `max_step`. Differentiable in both:

    - of the values: 1 where −Qn < v/s < Qp, else 0 (straight through the rounding);
    - of the step (LSQ, eq. 3): q − v/s inside, −Qn below, Qp above; summed, times `gradient_scale`. A step that
      is held at a bound keeps this gradient, so that it can come back.
    """
    plain = step.ndim == 0 and not values.is_cuda and is_dense(values)
    out: Tensor = (OneStep if plain else Steps).apply(values, step, qn, qp, gradient_scale, max_step)
    return out


def composed(values: Tensor, step: Tensor, low: Tensor, high: Tensor, gradient_scale: Tensor) -> Tensor:
    """`fake_quantize` for a positive step, made of plain operations that a compiler fuses.

    `low` and `high` are the ends of the code range as () tensors: a graph that was compiled for one bit width
    serves all others. A value on the very edge of the range passes its gradient in part.
    """
    scaled = step * gradient_scale
    s = scaled + (step - scaled).detach()
    x = torch.minimum(torch.maximum(values / s, low), high)
    return (x + (x.round() - x).detach()) * s


class LsqQuantizer(nn.Module):
    """Fake quantization; `step` is (C, 1, …) for one per output channel of a weight, or () for one per tensor.

    With a `limit`, the largest value it can represent stays at or below it: an unsigned quantizer with limit 6
    then clips just as ReLU6 does.
    """

    low: Tensor
    high: Tensor
    max_step: Tensor

    def __init__(
        self,
        bits: int,
        *,
        signed: bool,
        weight: bool = False,
        step_shape: tuple[int, ...] = (),
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.bits = bits
        self._weight = weight
        self.qn, self.qp = code_range(bits, signed=signed)
        self._max_step = math.inf if limit is None else limit / self.qp
        self.step = nn.Parameter(torch.ones(step_shape))
        self.register_buffer("low", torch.tensor(float(-self.qn)), persistent=False)
        self.register_buffer("high", torch.tensor(float(self.qp)), persistent=False)
        self.register_buffer("max_step", torch.tensor(self._max_step), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # How many values share the step: a tensor's weights, a channel's weights, or one image's activations.
        shared_by = x.numel() if self._weight and self.step.ndim == 0 else x[0].numel()
        if torch.compiler.is_compiling():
            return composed(x.float(), self.safe_step(), self.low, self.high, (self.high * shared_by).rsqrt())
        scale = 1 / math.sqrt(shared_by * self.qp)
        return fake_quantize(x.float(), self.step, self.qn, self.qp, scale, max_step=self._max_step)

    def safe_step(self) -> Tensor:
        """The step, positive and within the limit: training may push it through zero, and its size counts then."""
        return torch.minimum(self.step.abs().clamp_min(MIN_STEP), self.max_step)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of a tensor, int64: those that forward() computes with."""
        with torch.no_grad():
            codes: Tensor = (self(x) / self.safe_step()).round().to(torch.int64)
        return codes
