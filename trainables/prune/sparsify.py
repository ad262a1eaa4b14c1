"""Unstructured pruning: the stage that sets single weights to zero while training."""

import torch
from torch import Tensor, nn

from trainables.config import Sparsify
from trainables.errors import ArtifactMismatch, InfeasiblePoint
from trainables.models.model import Model
from trainables.models.units import Unit
from trainables.prune.masks import HoldZeros, MaskedWeight, apply_masks_, zero_share
from trainables.prune.sparsity import make_masks, prunable, removed
from trainables.stages.stage import StageContext, StageResult, on_cpu, run_stage
from trainables.train.loop import evaluate, evaluated, fit
from trainables.train.step_rule import Moment, StepRule

MASKS_PER_RAMP = 20
"""A short run makes its masks more often than `mask_every` says, so that a step of the ramp removes few weights. More:
time for the ranking; fewer: larger steps."""


def cubic(share: float) -> float:
    """Returns 1 − (1 − t)³: most weights go early, when the network can still recover (arXiv 1710.01878, eq. 1)."""
    return 1.0 - (1.0 - share) ** 3


def newest_mask(moment: Moment, config: Sparsify) -> int:
    """Returns the training step, not after this one, at which a gradual run last made masks; 0: none yet."""
    ramp = _ramp_steps(moment, config)
    every = min(config.mask_every, max(1, ramp // MASKS_PER_RAMP))
    return ramp if moment.step >= ramp else moment.step - moment.step % every


def ramp_sparsity(moment: Moment, config: Sparsify) -> float:
    """Returns the sparsity of the masks that a gradual run has at a training step."""
    return config.sparsity * cubic(newest_mask(moment, config) / _ramp_steps(moment, config))


def _ramp_steps(moment: Moment, config: Sparsify) -> int:
    return max(1, round(moment.total * config.ramp))


class RaiseSparsity(StepRule):
    """The rule that makes new masks from the dense weights along the ramp, and none after it.

    It remembers nothing: the masks are buffers of the network.
    """

    def __init__(self, model: nn.Module, config: Sparsify) -> None:
        self._layers = prunable(model, config.exempt)
        self._config = config
        for unit in self._layers.values():
            unit.weight_point.quantizer = MaskedWeight(unit.layer.weight)

    def after_step(self, moment: Moment) -> None:
        """Makes the masks of this step, if it is one that has new masks."""
        if moment.step == newest_mask(moment, self._config):
            self._set(ramp_sparsity(moment, self._config))

    def is_settled(self, moment: Moment) -> bool:
        """Whether the masks are those of the end."""
        return moment.step >= _ramp_steps(moment, self._config)

    def _set(self, sparsity: float) -> None:
        """Makes masks that leave this share of the weights zero."""
        masks = _masks(self._layers, sparsity, self._config)
        for name, unit in self._layers.items():
            assert isinstance(unit.weight_point.quantizer, MaskedWeight)
            unit.weight_point.quantizer.mask.copy_(masks[name])

    @torch.no_grad()
    def finish(self) -> None:
        """Makes the masks permanent."""
        for unit in self._layers.values():
            assert isinstance(unit.weight_point.quantizer, MaskedWeight)
            unit.layer.weight.mul_(unit.weight_point.quantizer.mask)
            unit.weight_point.quantizer = None


@run_stage.register
def _(config: Sparsify, context: StageContext) -> StageResult:
    """Makes the parent sparse, gradually or in steps.

    Every row of the history says which sparsity was requested and reached then, and how many weights stayed among
    those that are not exempt; in steps, also the accuracy before and after the training of its step.

    Raises:
        InfeasiblePoint: every layer is exempt, or the density that small layers keep leaves too few weights to remove.
    """
    model = context.parent_model()
    layers = prunable(model, config.exempt)
    if not layers:
        raise InfeasiblePoint(
            "sparsity > 0 needs layers that are not exempt, but all are: take a group out of exempt, or set it to 0."
        )
    if config.max_accuracy_drop is None:
        _masks(layers, config.sparsity, config)  # what cannot be reached fails before hours of training
    before = achieved_sparsity(model, config)
    train = _gradual if config.mode == "gradual" else _iterative
    history, requested = train(model, config, context)
    achieved = achieved_sparsity(model, config)
    weights = sum(unit.layer.weight.numel() for unit in layers.values())
    wanted = max(removed(weights, requested) / weights, before)
    if abs(achieved - wanted) > 0.01:  # a weight may be zero by itself
        raise ArtifactMismatch(f"{achieved:.4f} of the weights are zero, but {wanted:.4f} were to be")
    metrics = {
        "val_accuracy": evaluate(model, context.val),
        "sparsity_requested": config.sparsity,
        "sparsity_achieved": achieved,
        "stopped_early": float(requested < config.sparsity),
    }
    parent = context.parent
    return StageResult(parent.architecture, None, model.state_dict(), metrics, history, parent.plan)


def achieved_sparsity(model: nn.Module, config: Sparsify) -> float:
    """Returns the share of zeros among the weights that are not exempt."""
    return zero_share({name: unit.layer.weight for name, unit in prunable(model, config.exempt).items()})


def _gradual(model: Model, config: Sparsify, context: StageContext) -> tuple[list[dict[str, float]], float]:
    """Sparsifies in one training run, whose masks are fixed at the end of the ramp; returns history and target."""
    rule = RaiseSparsity(model, config)
    rows = fit(model, config.schedule, context, rules=[rule, HoldZeros(model)])
    if not rows:
        rule.after_step(Moment(1, 1))
    rule.finish()
    rows = rows or [evaluated(model, context.val)]
    total = sum(unit.layer.weight.numel() for unit in prunable(model, config.exempt).values())
    steps = context.train.batch_count(config.schedule.batch_size)
    ends = [Moment(steps * epoch, steps * len(rows)) for epoch in range(1, len(rows) + 1)]
    history = [{**row, **_masked(total, ramp_sparsity(end, config))} for row, end in zip(rows, ends, strict=True)]
    return history, config.sparsity


def _masked(weights: int, sparsity: float) -> dict[str, float]:
    """Says for a row of the history what masks of a sparsity leave of so many weights."""
    gone = removed(weights, sparsity)
    achieved = gone / weights if weights else 0.0
    return {"sparsity_requested": sparsity, "sparsity_achieved": achieved, "nonzeros": weights - gone}


def _iterative(model: Model, config: Sparsify, context: StageContext) -> tuple[list[dict[str, float]], float]:
    """Prunes, trains, prunes more: up to the target, or until the accuracy has dropped too far.

    A step after which it has is taken back. Returns the history, which tells of that step too, and the sparsity that
    was reached.
    """
    layers = prunable(model, config.exempt)
    before = evaluate(model, context.val)
    history: list[dict[str, float]] = []
    reached, within = 0.0, _copied(model, config)
    for step in range(1, config.steps + 1):
        share = step / config.steps
        sparsity = config.sparsity * (cubic(share) if config.ramp_shape == "cubic" else share)
        apply_masks_(model, _masks(layers, sparsity, config))
        about = {
            "step": step,
            "sparsity_requested": sparsity,
            "sparsity_achieved": achieved_sparsity(model, config),
            "nonzeros": sum(int(unit.layer.weight.count_nonzero()) for unit in layers.values()),
            "accuracy_pruned": evaluate(model, context.val),
        }
        rows = fit(model, config.schedule, context.phase(step), rules=[HoldZeros(model)])
        validation = evaluated(model, context.val)
        accuracy = validation["val_accuracy"]
        about["accuracy_fine_tuned"] = accuracy
        history += [{**row, **about} for row in rows] or [{**about, **validation}]
        if config.max_accuracy_drop is not None and before - accuracy > config.max_accuracy_drop:
            model.load_state_dict(within)
            break
        reached, within = sparsity, _copied(model, config)
    return history, reached


def _copied(model: Model, config: Sparsify) -> dict[str, Tensor]:
    """Returns the weights to go back to, on the CPU; none where no bound asks for them."""
    bound = config.max_accuracy_drop is not None
    return {name: tensor.clone() for name, tensor in on_cpu(model.state_dict()).items()} if bound else {}


def _masks(layers: dict[str, Unit], sparsity: float, config: Sparsify) -> dict[str, Tensor]:
    return make_masks(layers, sparsity, criterion=config.criterion, min_density=config.min_density)
