"""Structured pruning: the stage that removes whole channels, at once or in steps, and fine-tunes after each."""

from collections.abc import Mapping

import torch

from trainables.config import ChannelPrune, Schedule
from trainables.device import seed_for
from trainables.models.model import Model
from trainables.prune.channels import prune_channels, prune_frac_achieved
from trainables.prune.masks import HoldZeros
from trainables.prune.plan import ChannelPlan, channel_counts, compose, plan_channels, whole
from trainables.prune.reconstruct import reconstruct_
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.batch_norm import BATCH, improve_batch_norm_, reestimate_batch_norm_
from trainables.train.loop import evaluate, evaluated, fit

SCORE_BATCH = 32
"""BN-Taylor squares the mean gradient of a batch: many small batches tell more than a few large ones."""
NORM_IMAGES = 2048
"""Images that batch norm is measured on again. More: time; fewer: noise in the statistics."""
PLANS = 500
"""The number of the first phase that keeps a plan; those of training runs go from 1 to the most steps, 100."""


@run_stage.register
def _(config: ChannelPrune, context: StageContext) -> StageResult:
    """Prunes the parent in steps whose fractions grow evenly; fractions and plan are of the parent's channels.

    Every row of the history says of its step what was requested, how many channels are left, and the accuracy before
    and after its training; a step without training has one row.
    """
    model, architecture = context.parent_model(), context.parent.architecture
    full = channel_counts(model, config)
    plan = whole(full)
    history: list[dict[str, float]] = []
    accuracy_pruned = accuracy = 0.0
    for step in range(1, config.steps + 1):
        last = step == config.steps
        run = context if last else context.phase(step)
        kept = _kept(model, full, config, step=step, run=run, saved_epochs=context.saved_epochs.phase(PLANS + step))
        plan = compose(plan, kept)
        before, (model, architecture) = model, prune_channels(model, architecture, kept)
        run.device.place(model)
        _repair_(model, before, kept, config, run)
        accuracy_pruned = evaluate(model, context.val)
        rows = fit(model, config.fine_tune if last else _between(config), run, rules=[HoldZeros(model)])
        validation = evaluated(model, context.val)
        accuracy = validation["val_accuracy"]
        about = {
            "step": step,
            "prune_frac_requested": _fraction(config, step),
            "prune_frac_achieved": prune_frac_achieved(architecture),
            "channels": sum(map(len, plan.values())),
            "accuracy_pruned": accuracy_pruned,
            "accuracy_fine_tuned": accuracy,
        }
        history += [{**row, **about} for row in rows] or [{**about, **validation}]
    metrics = {
        "val_accuracy": accuracy,
        "val_accuracy_pruned": accuracy_pruned,
        "prune_frac_requested": config.prune_frac,
        "prune_frac_achieved": prune_frac_achieved(architecture),
    }
    return StageResult(architecture, None, model.state_dict(), metrics, history, plan)


def _kept(
    model: Model,
    full: Mapping[str, int],
    config: ChannelPrune,
    *,
    step: int,
    run: StageContext,
    saved_epochs: SavedEpochs,
) -> ChannelPlan:
    """Returns the plan that an interrupted run made of this step, else a new one.

    Another machine may compute another last bit of a score, and the saved epochs belong to the first plan.
    """
    saved = saved_epochs.load()
    if saved is not None:
        return {name: saved.tensors[name].tolist() for name in full}
    request = config.model_copy(update={"prune_frac": _fraction(config, step)})
    batches = run.train.sample(config.importance_images, seed_for(run.seed, 11)).batches(SCORE_BATCH)
    plan = plan_channels(model, request, full=full, batches=batches, seed=seed_for(run.seed, 12))
    saved_epochs.save(SavedEpoch({name: torch.tensor(kept) for name, kept in plan.items()}, []))
    return plan


def _repair_(model: Model, before: Model, kept: ChannelPlan, config: ChannelPrune, run: StageContext) -> None:
    """Makes up for removed channels as far as that goes without training: they moved every mean after them."""
    if config.reconstruction_images:
        images = run.train.sample(config.reconstruction_images, seed_for(run.seed, 14))
        reconstruct_(model, before, kept, images)
        improve_batch_norm_(model, run.train, NORM_IMAGES, seed_for(run.seed, 13))
    else:
        sample = run.train.sample(NORM_IMAGES, seed_for(run.seed, 13))
        reestimate_batch_norm_(model, sample.batches(BATCH))


def _fraction(config: ChannelPrune, step: int) -> float:
    """Returns the fraction of the parent's channels that are gone after a step."""
    return config.prune_frac * (step / config.steps)


def _between(config: ChannelPrune) -> Schedule:
    """Returns the schedule of the training after a step that is not the last one."""
    warmup = min(config.fine_tune.warmup_epochs, config.step_epochs)
    return config.fine_tune.model_copy(update={"epochs": config.step_epochs, "warmup_epochs": warmup})
