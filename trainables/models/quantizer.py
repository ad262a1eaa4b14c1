"""Quantizer: what sits at a quantization point, whatever it learns."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

MIN_STEP = 1e-8
"""The smallest step that is used: far below any step that calibration finds, and far above float32's smallest number,
so that a division by it stays finite."""


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Returns (Qn, Qp): codes lie in [−Qn, Qp]. Signed codes are symmetric; −2^(b−1) stays unused.

    One signed bit has the codes −1 and 1, and no zero.
    """
    largest = max(1, 2 ** (bits - 1) - 1) if signed else 2**bits - 1
    return (largest if signed else 0), largest


def nearest_codes(scaled: Tensor, bits: int, *, signed: bool) -> Tensor:
    """Returns the codes nearest to values that are divided by their step, in the same dtype; halves go to even."""
    if bits == 1 and signed:
        return torch.where(scaled < 0, -1.0, 1.0).to(scaled.dtype)
    qn, qp = code_range(bits, signed=signed)
    return scaled.round().clamp(-qn, qp)


class Quantizer(nn.Module):
    """The abstract class of uniform quantizers with zero point 0: values become q·s with codes q in [−Qn, Qp].

    `step` is a parameter where `LEARNS`, else a buffer: (C, 1, …) for one step per output channel of a weight, or ()
    for one per tensor; calibration and the decoder set it. Where `binary`, codes are signs, −1 and 1. With a `limit`,
    the largest value it can represent stays at or below it: an unsigned quantizer with limit 6 then clips just as ReLU6
    does.
    """

    LEARNS: ClassVar[bool]
    step: Tensor
    low: Tensor
    high: Tensor
    ceiling: Tensor

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
        self.weight = weight
        self.step_shape = step_shape
        self.qn, self.qp = code_range(bits, signed=signed)
        self.binary = bits == 1 and signed  # codes are signs; all other widths share one compiled graph
        self.max_step = math.inf if limit is None else limit / self.qp
        if self.LEARNS:
            self.step = nn.Parameter(torch.ones(step_shape))
        else:
            self.register_buffer("step", torch.ones(step_shape))
        # Tensors, so that a compiled graph takes them as inputs.
        for name, value in (("low", float(-self.qn)), ("high", float(self.qp)), ("ceiling", self.max_step)):
            self.register_buffer(name, torch.tensor(value), persistent=False)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Moves values to the grid of `safe_step`, in the shape of `x`, float32; differentiable in `x`."""

    def safe_step(self) -> Tensor:
        """Returns the step, positive and within the limit: training may push it through zero; its size counts then."""
        return self.step.abs().clamp(MIN_STEP, self.max_step)

    def codes(self, x: Tensor) -> Tensor:
        """Returns the integer codes of a tensor, int64: those that forward() computes with."""
        with torch.no_grad():
            codes: Tensor = (self(x) / self.safe_step()).round().to(torch.int64)
        return codes
