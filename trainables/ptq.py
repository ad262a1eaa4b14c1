"""Post-training quantization: static ranges from calibration data, then weights and biases layer by layer."""

from trainables.config import PostTrainingQuant, QuantScheme
from trainables.device import seed_for
from trainables.export.packed import pack_result
from trainables.quant.calibrate import calibrated_
from trainables.quant.finish import finished, resolved_scheme
from trainables.quant.layerwise import fit_layers_
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.batch_norm import improve_batch_norm_

MARGIN = 0.001
"""The share of a budget that is given up beside what was too many. More: smaller files than asked for; less: bits are
chosen, and weights rounded, once or twice more: minutes for a large network."""


@run_stage.register
def _(config: PostTrainingQuant, context: StageContext) -> StageResult:
    """Quantizes the parent by calibration alone, without training.

    The codes that come of it need other bytes than the rounded weights that the bits were chosen by. Where the file
    passes its budget, bits are chosen again for as much less and a little more.
    """
    budget, excess_bytes = config.auto_bits, 0
    while True:
        result = _quantized(config, resolved_scheme(config, context, excess_bytes=excess_bytes), context)
        if budget is None:
            return result
        too_many = len(pack_result(result, context.data)) - budget.budget_bytes
        if too_many <= 0:
            return result
        excess_bytes += too_many + round(MARGIN * budget.budget_bytes)


def _quantized(config: PostTrainingQuant, scheme: QuantScheme, context: StageContext) -> StageResult:
    model = context.parent_model()
    images = calibrated_(model, scheme, config.calibration_images, context)
    if config.rounding == "gptq" or config.bias_correction:
        fit_layers_(model, images, gptq=config.rounding == "gptq", bias=config.bias_correction)
    improve_batch_norm_(model, context.train, config.bn_images, seed_for(context.seed, 5))
    return finished(model, scheme, context, [])
