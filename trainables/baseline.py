"""The shared network: trained from scratch, imported from a file of weights, or left untrained."""

from pathlib import Path

import torch

from trainables.config import BaselineImport, BaselineTrain, BaselineUntrained, file_sha256
from trainables.device import seed_for
from trainables.errors import ConfigError
from trainables.models.checkpoint_file import Fitted, read_fitted
from trainables.models.model import Model, baseline_architecture, build
from trainables.quant.ptq import remeasure_batch_norm_
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.loop import evaluate, fit

IMAGES = 2048
"""From which an untrained network takes its statistics."""


@run_stage.register
def _(config: BaselineTrain, context: StageContext) -> StageResult:
    """Train from scratch."""
    architecture = baseline_architecture(config.model, context.data)
    torch.manual_seed(seed_for(context.seed, 0))
    model = build(architecture)
    context.device.place(model)
    history = fit(model, config.schedule, context)
    metrics = {"val_accuracy": evaluate(model, context.val)}
    return StageResult(
        architecture=architecture, scheme=None, state=model.state_dict(), metrics=metrics, history=history
    )


@run_stage.register
def _(config: BaselineImport, context: StageContext) -> StageResult:
    """Read a checkpoint file and check that it is this network."""
    architecture = baseline_architecture(config.model, context.data)
    model = build(architecture)
    model.load_state_dict(model.state_dict() | read_import(config, model).state)
    context.device.place(model)
    metrics = {"val_accuracy": evaluate(model, context.val)}
    return StageResult(architecture=architecture, scheme=None, state=model.state_dict(), metrics=metrics)


@run_stage.register
def _(config: BaselineUntrained, context: StageContext) -> StageResult:
    """Random weights; batch norm knows the images, so that values neither vanish nor grow from layer to layer."""
    architecture = baseline_architecture(config.model, context.data)
    torch.manual_seed(seed_for(context.seed, 0))
    model = build(architecture)
    context.device.place(model)
    remeasure_batch_norm_(model, IMAGES, context)
    metrics = {"val_accuracy": evaluate(model, context.val)}
    return StageResult(architecture=architecture, scheme=None, state=model.state_dict(), metrics=metrics)


def read_import(config: BaselineImport, model: Model) -> Fitted:
    """The tensors of the checkpoint under the names of the network that it is for.

    Raises:
        ConfigError: the file has changed since its digest was taken, cannot be read, or is of another network.
    """
    path = Path(config.checkpoint)
    if config.sha256 and file_sha256(path) != config.sha256:
        raise ConfigError(f"{path} has changed since the experiment began: restore it or start another experiment.")
    return read_fitted(path, model.state_dict())
