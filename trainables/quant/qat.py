"""Quantization-aware training: the calibrated network, then weights and step sizes learned together."""

from trainables.config import ACTIVATION_WIDTHS, QuantAwareTrain, QuantScheme
from trainables.device import seed_for
from trainables.models.attach import detach_quantizers_
from trainables.models.model import Model
from trainables.prune.masks import HoldZeros
from trainables.quant.calibrate import calibrated_
from trainables.quant.finish import finished, resolved_scheme
from trainables.quant.freezing import FreezeOscillations, FreezeSteps
from trainables.quant.guard import GuardChannels
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.batch_norm import improve_batch_norm_
from trainables.train.loop import fit
from trainables.train.step_rule import StepRule


@run_stage.register
def _(config: QuantAwareTrain, context: StageContext) -> StageResult:
    """Trains the quantized parent; batch norm stays live, and is measured again at the end where better."""
    scheme = resolved_scheme(config, context)
    model = context.parent_model()
    history = _widths_before(model, scheme, config, context)
    calibrated_(model, scheme, config.calibration_images, context)
    history += _train(model, config, context)
    improve_batch_norm_(model, context.train, config.bn_images, seed_for(context.seed, 5))
    return finished(model, scheme, context, history)


def _widths_before(
    model: Model, scheme: QuantScheme, config: QuantAwareTrain, context: StageContext
) -> list[dict[str, float]]:
    """Trains at each progressive width, wide to narrow; leaves the float weights that this ended with."""
    history: list[dict[str, float]] = []
    schedule = config.schedule.model_copy(update={"epochs": config.progressive_epochs, "warmup_epochs": 0.0})
    for phase, bits in enumerate(config.progressive_bits):
        calibrated_(model, at_least(scheme, bits), config.calibration_images, context)
        phased = config.model_copy(update={"schedule": schedule})
        history += [{**row, "bits": bits} for row in _train(model, phased, context.phase(phase))]
        detach_quantizers_(model)
    return history


def at_least(scheme: QuantScheme, bits: int) -> QuantScheme:
    """Returns the scheme with every narrower width raised to `bits`; of activations to the next that they may have."""
    of_activations = next(width for width in ACTIVATION_WIDTHS if width >= bits)
    least = dict.fromkeys(("w_bits", "edge_bits", "w_bits_by_group", "w_bits_by_layer"), bits)
    least |= dict.fromkeys(("a_bits", "residual_bits", "a_bits_by_group"), of_activations)
    content = scheme.model_dump()
    for name, lowest in least.items():
        own = content[name]
        by_name = isinstance(own, dict)
        content[name] = {key: max(b, lowest) for key, b in own.items()} if by_name else max(own, lowest)
    return QuantScheme.model_validate(content)


def _train(model: Model, config: QuantAwareTrain, context: StageContext) -> list[dict[str, float]]:
    """Trains with the rules that the configuration asks for, and returns the history."""
    guard = GuardChannels(model)
    rules: list[StepRule] = [HoldZeros(model)]
    if config.freezing is not None:
        rules.append(FreezeOscillations(model, config.freezing))
    if config.freeze_steps_after < 1:
        rules.append(FreezeSteps(model, config.freeze_steps_after))
    if config.guard_channels:
        rules.append(guard)
    history = fit(model, config.schedule, context, rules=rules)
    if config.guard_channels:
        guard.after_step()  # averaged weights are none that a step has seen
    return history
