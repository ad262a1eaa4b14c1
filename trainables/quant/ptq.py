"""Post-training quantization: static ranges from calibration data, then batch norm measured again."""

from trainables.config import PostTrainingQuant, QuantAwareTrain, QuantScheme
from trainables.device import seed_for
from trainables.errors import ArtifactMismatch
from trainables.models.model import Model
from trainables.prune.masks import check_zeros, weights_of
from trainables.quant.allocate import allocate
from trainables.quant.bias import correct_bias_, mean_outputs
from trainables.quant.calibrate import calibrated_
from trainables.quant.fold import folded, round_side_info_
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.loop import evaluate, reestimate_batch_norm_

BATCH = 128
"""Images of a batch on which batch norm is measured. More: memory for activations; fewer: more time between batches."""
FOLDING_MOVES = 0.01
"""The accuracy that folding may move, or three images where that is more: an activation between two steps may fall
either way. What counts is the folded network's accuracy; this bound is there to find faults."""


def remeasure_batch_norm_(model: Model, images: int, context: StageContext) -> None:
    """Measures batch norm again on a seeded sample of training images; 0 images leave it as it is."""
    if images:
        sample = context.train.sample(images, seed_for(context.seed, 5))
        reestimate_batch_norm_(model, sample.batches(BATCH))


def finished(model: Model, scheme: QuantScheme, context: StageContext, history: list[dict[str, float]]) -> StageResult:
    """Rounds what the file stores in few bits, and evaluates the folded network.

    Folding may move an activation by one step where it lay between two, so the folded network decides a few
    images differently; more than that is an error.

    Raises:
        ArtifactMismatch: folding changed the network, or weights of a sparse parent came back.
    """
    weights = weights_of(model)
    before = {name: context.parent.state[f"{name}.layer.weight"] for name in weights}
    check_zeros(before, weights, where="after quantization")
    round_side_info_(model, side_bits=scheme.side_bits)
    live = evaluate(model, context.val)
    accuracy = evaluate(folded(model, side_bits=scheme.side_bits), context.val)
    if abs(live - accuracy) > max(FOLDING_MOVES, 3 / len(context.val)):
        raise ArtifactMismatch(f"folding moved the accuracy from {live:.4f} to {accuracy:.4f}")
    metrics = {"val_accuracy": accuracy, "val_accuracy_unfolded": live}
    return StageResult(context.parent.architecture, scheme, model.state_dict(), metrics, history)


def resolved_scheme(config: PostTrainingQuant | QuantAwareTrain, context: StageContext) -> QuantScheme:
    """Returns the scheme, with the bits of every layer chosen from the parent's sensitivities if `auto_bits` is set."""
    if config.auto_bits is None:
        return config.scheme
    return allocate(config.auto_bits, config.scheme, context.parent.metrics)


@run_stage.register
def _(config: PostTrainingQuant, context: StageContext) -> StageResult:
    """Quantizes the parent by calibration alone, without training."""
    scheme = resolved_scheme(config, context)
    model = context.parent_model()
    images = context.train.sample(config.calibration_images, seed_for(context.seed, 3))
    wanted = mean_outputs(model, images) if config.bias_correction else {}
    calibrated_(model, scheme, config.calibration_images, context)
    remeasure_batch_norm_(model, config.bn_images, context)
    if wanted:
        correct_bias_(model, wanted, images)
    return finished(model, scheme, context, [])
