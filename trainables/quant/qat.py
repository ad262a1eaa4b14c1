"""Quantization-aware training: the calibrated network, then weights and step sizes learned together."""

from trainables.config import QuantAwareTrain
from trainables.quant.ptq import calibrated_parent, finished
from trainables.stage import StageContext, StageResult, run_stage
from trainables.train import fit


@run_stage.register
def _(config: QuantAwareTrain, context: StageContext) -> StageResult:
    """Batch norm stays live while training and is measured again at the end."""
    model = calibrated_parent(config.calibration_images, config.scheme, context)
    history = fit(model, config.schedule, context)
    return finished(model, config.scheme, config.bn_images, context, history)
