"""Uniform quantizers with a learned step size (LSQ: Esser et al., arXiv 1902.08153)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

MIN_STEP = 1e-8


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """(Qn, Qp): codes lie in [−Qn, Qp]. Signed codes are symmetric; −2^(b−1) stays unused."""
    return (2 ** (bits - 1) - 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def fake_quantize(values: Tensor, step: Tensor, qn: int, qp: int, gradient_scale: float) -> Tensor:
    """Values on the grid of `step`, q·s with q = round(clip(v / s, −Qn, Qp)), halves to even.

    `step` is () for one step, or (C, 1, …) for one per row of `values`. Differentiable in both:

    - of the values: 1 where −Qn < v/s < Qp, else 0 (straight through the rounding);
    - of the step (LSQ, eq. 3): q − v/s inside, −Qn below, Qp above; summed, times `gradient_scale`.
    """
    out: Tensor = _FakeQuantize.apply(values, step, qn, qp, gradient_scale)
    return out


class _FakeQuantize(torch.autograd.Function):
    """Both gradients from v and q·s alone: Σ grad·q − Σ_inside grad·v/s. One fused kernel forward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, qn: int, qp: int, gradient_scale: float) -> Tensor:
        steps = step.detach().flatten()
        zeros = torch.zeros_like(steps, dtype=torch.int32)
        if step.ndim == 0:
            out = torch.fake_quantize_per_tensor_affine(values, steps, zeros, -qn, qp)
        else:
            out = torch.fake_quantize_per_channel_affine(values, steps, zeros, 0, -qn, qp)
        ctx.save_for_backward(values, out, step)
        ctx.constants = (qn, qp, gradient_scale)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        values, out, step = ctx.saved_tensors
        qn, qp, gradient_scale = ctx.constants
        if not ctx.needs_input_grad[1]:
            return grad * ((values > -qn * step) & (values < qp * step)), None, None, None, None
        if step.ndim == 0 and not step.is_cuda:
            # The same in one kernel and two dot products: a training step took 1.6 instead of 2.4 times fp32's.
            s = float(step)
            inside = torch.ops.aten.hardtanh_backward(grad, values, -qn * s, qp * s)
            of_step = torch.dot(_flat(grad), _flat(out)) - torch.dot(_flat(inside), _flat(values))
        else:
            inside = grad * ((values > -qn * step) & (values < qp * step))
            of_step = (grad * out - inside * values).sum_to_size(step.shape)
        return inside, of_step * (gradient_scale / step), None, None, None


def _flat(x: Tensor) -> Tensor:
    """All elements in an order that costs no copy of a channels-last tensor."""
    return x.permute(0, 2, 3, 1).reshape(-1) if x.ndim == 4 else x.reshape(-1)


class LsqQuantizer(nn.Module):
    """Fake quantization; `step` is (C, 1, …) for weights, one per output channel, or () for activations."""

    def __init__(self, bits: int, *, signed: bool, step_shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.bits = bits
        self.qn, self.qp = code_range(bits, signed=signed)
        self.step = nn.Parameter(torch.ones(step_shape))

    def forward(self, x: Tensor) -> Tensor:
        shared_by = x[0].numel()  # weights of one channel, or one image's activations
        scale = 1 / math.sqrt(shared_by * self.qp)
        return fake_quantize(x.float(), self.safe_step(), self.qn, self.qp, scale)

    def safe_step(self) -> Tensor:
        """The step, positive: training may push it through zero, and its size is what counts then."""
        return self.step.abs().clamp_min(MIN_STEP)

    def codes(self, x: Tensor) -> Tensor:
        """Integer codes of a tensor, int64: those that forward() computes with."""
        with torch.no_grad():
            codes: Tensor = (self(x) / self.safe_step()).round().to(torch.int64)
        return codes
