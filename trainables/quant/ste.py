"""Plain straight-through training: steps stay as they were calibrated (Bengio et al., arXiv 1308.3432)."""

import torch
from torch import Tensor

from trainables.quant.lsq import fake_quantize
from trainables.quant.quantizer import Quantizer


class StraightThroughQuantizer(Quantizer):
    """The gradient passes where a value is not clipped; nothing of the quantizer learns."""

    def __init__(
        self,
        bits: int,
        *,
        signed: bool,
        weight: bool = False,
        step_shape: tuple[int, ...] = (),
        limit: float | None = None,
    ) -> None:
        super().__init__(bits, signed=signed, weight=weight, step_shape=step_shape, limit=limit)
        self.register_buffer("step", torch.ones(step_shape))

    def forward(self, x: Tensor) -> Tensor:
        return fake_quantize(x.float(), self.step, self.qn, self.qp, 1.0, max_step=self.max_step)
