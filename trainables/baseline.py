"""The shared network: trained from scratch, imported from a file of weights, or left untrained."""

from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.config import (
    Architecture,
    Baseline,
    BaselineImport,
    BaselineTrain,
    BaselineUntrained,
    DataConfig,
    file_sha256,
    height_and_width,
    image_size_of,
)
from trainables.data.data_sets import load_source
from trainables.data.needs import image_channels
from trainables.device import seed_for
from trainables.errors import ConfigError
from trainables.graph.network_file import parse_network
from trainables.graph.operators import shapes
from trainables.models.checkpoint_file import Fitted, read_fitted
from trainables.models.model import Model, baseline_architecture, build
from trainables.models.unit_state import own_model
from trainables.results import chance_limit
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.storage import read_bytes, sha256, storage_path
from trainables.train.batch_norm import BATCH, improve_batch_norm_, reestimate_batch_norm_
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
    """Reads a checkpoint file, checks that it is of this network, and measures its batch norm again if asked to."""
    model, architecture = _fresh(config, context)
    if config.checkpoint:
        model.load_state_dict(model.state_dict() | read_import(config, model).state)
    improve_batch_norm_(model, context.train, config.bn_images, seed_for(context.seed, 5))
    result = _result(model, architecture, context)
    accuracy, chance = result.metrics["val_accuracy"], 1 / context.data.classes
    if config.network and accuracy <= chance_limit(context.data.classes):
        raise ConfigError(
            f"the imported network has accuracy {100 * accuracy:.1f} % on {len(context.val):,} validation images, and "
            f"chance is {100 * chance:.1f} %: give the mean and std that it was trained with (data.mean, data.std), "
            "check its checkpoint, or say kind: untrained."
        )
    return result


@run_stage.register
def _(config: BaselineUntrained, context: StageContext) -> StageResult:
    """Leaves the weights random; batch norm knows the images, so that values keep their size from layer to layer."""
    model, architecture = _fresh(config, context)
    sample = context.train.sample(IMAGES, seed_for(context.seed, 5))
    reestimate_batch_norm_(model, sample.batches(BATCH))
    return _result(model, architecture, context)


def _fresh(config: Baseline, context: StageContext) -> tuple[Model, Architecture]:
    """Builds the network with seeded random weights, or one's own with the weights that it brings, on the device."""
    if config.network:
        model, architecture = own_network(config, context.data.train.images.shape[1:], context.data.classes)
        return context.device.place(model), architecture
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


def refuse_misfit(config: Baseline, data: DataConfig) -> None:
    """Refuses weights or a captured network that do not go with the data set, before any image is decoded.

    Where the images are not at hand, as on the head of a cluster, nothing is checked: the workers will say.

    Raises:
        ConfigError: as where the stage is run.
    """
    if not config.network and not isinstance(config, BaselineImport):
        return
    try:
        source = load_source(data)
        channels = image_channels(source, data)
    except ConfigError:
        return
    height, width = height_and_width(data.image_size)
    if config.network:
        own_network(config, (channels, height, width), source.classes)
    elif isinstance(config, BaselineImport):
        sides = image_size_of(height, width)
        made = Architecture(model=config.model, classes=source.classes, channels=channels, image_size=sides)
        read_import(config, build(made))


def own_network(config: Baseline, image: tuple[int, ...], classes: int) -> tuple[Model, Architecture]:
    """Reads the captured network of a configuration, on the CPU, for images (C, H, W) of so many classes.

    Raises:
        ConfigError: the file has changed since its digest was taken, cannot be read, or does not fit the images.
    """
    path = storage_path(config.network)
    try:
        content = read_bytes(path)
    except OSError as err:
        raise ConfigError(f"cannot read {path}: {err.strerror or err}. Restore the captured network.") from err
    network = parse_network(content, source=str(path))
    if config.network_sha256 and sha256(content) != config.network_sha256:
        raise ConfigError(f"{path} has changed since the experiment began: restore it or start another experiment.")
    if network.graph.image != image:
        takes, has = ("x".join(map(str, shape)) for shape in (network.graph.image, image))
        raise ConfigError(
            f"{path} takes images of {takes}, but the data set has {has}: set data.image_size, or capture it anew."
        )
    outputs = shapes(network.graph)[network.graph.output][-1]
    if outputs != classes:
        raise ConfigError(f"{path} has {outputs} outputs, but the data set {classes} classes: capture another network.")
    return own_model(network)
