"""The shared network: trained from scratch, imported from a file of weights, or left untrained."""

from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.config import Architecture, Baseline, BaselineImport, BaselineTrain, BaselineUntrained, file_sha256
from trainables.device import seed_for
from trainables.errors import ConfigError
from trainables.models.checkpoint_file import Fitted, read_fitted
from trainables.models.model import Model, baseline_architecture, build
from trainables.quant.ptq import remeasure_batch_norm_
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.loop import evaluate, fit

IMAGES = 2048
"""Images from which an untrained network takes its statistics: as many as batch norm is measured on elsewhere."""


@run_stage.register
def _(config: BaselineTrain, context: StageContext) -> StageResult:
    """Trains the network from scratch."""
    model, architecture = _fresh(config, context)
    return _result(model, architecture, context, fit(model, config.schedule, context))


@run_stage.register
def _(config: BaselineImport, context: StageContext) -> StageResult:
    """Reads a checkpoint file and checks that it is of this network."""
    model, architecture = _fresh(config, context)
    model.load_state_dict(model.state_dict() | read_import(config, model).state)
    return _result(model, architecture, context)


@run_stage.register
def _(config: BaselineUntrained, context: StageContext) -> StageResult:
    """Leaves the weights random; batch norm knows the images, so that values keep their size from layer to layer."""
    model, architecture = _fresh(config, context)
    remeasure_batch_norm_(model, IMAGES, context)
    return _result(model, architecture, context)


def _fresh(config: Baseline, context: StageContext) -> tuple[Model, Architecture]:
    """Builds the network with seeded random weights, on the device."""
    architecture = baseline_architecture(config.model, context.data)
    torch.manual_seed(seed_for(context.seed, 0))
    return context.device.place(build(architecture)), architecture


def _result(
    model: Model, architecture: Architecture, context: StageContext, history: Sequence[dict[str, float]] = ()
) -> StageResult:
    metrics = {"val_accuracy": evaluate(model, context.val)}
    return StageResult(architecture, None, model.state_dict(), metrics, list(history))


def read_import(config: BaselineImport, model: Model) -> Fitted:
    """Reads the tensors of the checkpoint under the names of the network that it is for.

    Raises:
        ConfigError: the file has changed since its digest was taken, cannot be read, or is of another network.
    """
    path = Path(config.checkpoint)
    if config.sha256 and file_sha256(path) != config.sha256:
        raise ConfigError(f"{path} has changed since the experiment began: restore it or start another experiment.")
    return read_fitted(path, model.state_dict())
