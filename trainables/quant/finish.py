"""How the stages that quantize begin and end: the scheme that is asked for, and the network as the file has it."""

from trainables.config import PostTrainingQuant, QuantAwareTrain, QuantScheme
from trainables.errors import ArtifactMismatch, InfeasiblePoint
from trainables.models.attach import activation_quantizers
from trainables.models.model import Model
from trainables.models.units import units
from trainables.prune.masks import check_zeros, weights_of
from trainables.quant.allocate import allocate
from trainables.quant.fold import folded, round_side_info_
from trainables.stages.stage import StageContext, StageResult
from trainables.train.loop import evaluate

FOLDING_MOVES = 0.01
"""The accuracy that folding may move, or three images where that is more: an activation between two steps may fall
either way. What counts is the folded network's accuracy; this bound is there to find faults."""


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
    signs = any(quantizer.binary for quantizer in activation_quantizers(model).values())  # the least change flips one
    if not signs and abs(live - accuracy) > max(FOLDING_MOVES, 3 / len(context.val)):
        raise ArtifactMismatch(f"folding moved the accuracy from {live:.4f} to {accuracy:.4f}")
    metrics = {"val_accuracy": accuracy, "val_accuracy_unfolded": live}
    return StageResult(context.parent.architecture, scheme, model.state_dict(), metrics, history)


def resolved_scheme(
    config: PostTrainingQuant | QuantAwareTrain, context: StageContext, *, excess_bytes: int = 0
) -> QuantScheme:
    """Returns the scheme, with the bits of every layer chosen from the parent's sensitivities if `auto_bits` is set.

    Their budget is smaller by `excess_bytes`, by which a file with the bits of the whole budget was too large.

    Raises:
        InfeasiblePoint: even the narrowest widths pass the budget, or a weight of one bit is zero.
    """
    _refuse_zeros(config.scheme, context)
    if config.auto_bits is None:
        return config.scheme
    return allocate(config.auto_bits, config.scheme, context.parent.metrics, excess_bytes=excess_bytes)


def _refuse_zeros(scheme: QuantScheme, context: StageContext) -> None:
    """Raises InfeasiblePoint where a layer of the parent has zeros, as sparsify makes them, and is to have one bit."""
    widths = (scheme.w_bits, scheme.edge_bits, *scheme.w_bits_by_group.values(), *scheme.w_bits_by_layer.values())
    if 1 not in widths:
        return
    for name, unit in units(context.parent.model()).items():
        if scheme.weight_bits(name, unit.role) == 1 and bool((unit.layer.weight == 0).any()):
            raise InfeasiblePoint(
                f"{name} has weights that are zero, and 1 bit holds no zero: choose 2 bits, or leave sparsify out."
            )
