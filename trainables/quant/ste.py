"""Plain straight-through training: steps stay as they were calibrated (Bengio et al., arXiv 1308.3432)."""

from torch import Tensor

from trainables.models.quantizer import Quantizer
from trainables.quant.lsq import composed, fake_quantize


class StraightThroughQuantizer(Quantizer):
    """A quantizer that learns nothing; the gradient passes where a value is not clipped."""

    LEARNS = False

    def forward(self, x: Tensor) -> Tensor:
        if self.binary:
            return composed(x.float(), self.step, self.low, self.high, self.ceiling, self.high, binary=True)
        return fake_quantize(x.float(), self.step, self.qn, self.qp, 1.0, max_step=self.max_step)
