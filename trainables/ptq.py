"""Post-training quantization: static ranges from calibration data, then weights and biases layer by layer."""

from trainables.config import PostTrainingQuant, QuantScheme
from trainables.device import seed_for
from trainables.errors import InfeasiblePoint
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
    if config.auto_bits is None:
        return _quantized(config, resolved_scheme(config, context), context)
    budget_bytes = config.auto_bits.budget_bytes
    narrowest = resolved_scheme(config, context, excess_bytes=budget_bytes)
    excess_bytes, tried, size_bytes = 0, None, 0
    while True:
        scheme = resolved_scheme(config, context, excess_bytes=excess_bytes)
        if scheme != tried:
            tried, result = scheme, _quantized(config, scheme, context)
            size_bytes = len(pack_result(result, context.data))
        if size_bytes <= budget_bytes:
            return result
        if scheme == narrowest:
            raise InfeasiblePoint(
                f"the narrowest widths make a file of {size_bytes:,} bytes, but the budget is {budget_bytes:,}: raise "
                "budget_bytes, or prune more."
            )
        excess_bytes += size_bytes - budget_bytes + round(MARGIN * budget_bytes)


def _quantized(config: PostTrainingQuant, scheme: QuantScheme, context: StageContext) -> StageResult:
    model = context.parent_model()
    images = calibrated_(model, scheme, config.calibration_images, context)
    if config.rounding == "gptq" or config.bias_correction:
        gptq, norms_follow = config.rounding == "gptq", config.bn_images > 0
        fit_layers_(model, images, gptq=gptq, bias=config.bias_correction, norms_follow=norms_follow)
    improve_batch_norm_(model, context.train, config.bn_images, seed_for(context.seed, 5))
    return finished(model, scheme, context, [])
