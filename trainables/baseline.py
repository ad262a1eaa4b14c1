"""The shared network: trained from scratch, or imported from a file of weights."""

import io
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from trainables.config import BaselineImport, BaselineTrain, file_sha256
from trainables.device import seed_for
from trainables.errors import ConfigError
from trainables.models.model import baseline_architecture, build
from trainables.stage import StageContext, StageResult, run_stage
from trainables.train import evaluate, fit


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
    path = Path(config.checkpoint)
    if config.sha256 and file_sha256(path) != config.sha256:
        raise ConfigError(f"{path} has changed since the experiment began: restore it or start another experiment.")
    architecture = baseline_architecture(config.model, context.data)
    model = build(architecture)
    state = read_checkpoint(path)
    check_state(state, model.state_dict(), source=str(path))
    model.load_state_dict(model.state_dict() | state)
    context.device.place(model)
    metrics = {"val_accuracy": evaluate(model, context.val)}
    return StageResult(architecture=architecture, scheme=None, state=model.state_dict(), metrics=metrics)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or from torch.save. Nothing in the file is executed.

    Raises:
        ConfigError: missing, empty, not a checkpoint, or it holds more than tensors.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a checkpoint file.") from err
    way_out = "save the weights with safetensors, or with torch.save(model.state_dict(), path)"
    if not content:
        raise ConfigError(f"{path} is empty: {way_out}.")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_safetensors(content)
            return tensors
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except SafetensorError as err:
        raise ConfigError(f"{path} is no safetensors file ({err}): {way_out}.") from err
    except Exception as err:
        # torch.load raises whatever its reader meets in a foreign file.
        raise ConfigError(f"{path} is no file of plain weights ({type(err).__name__}): {way_out}.") from err
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ConfigError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors: {way_out}.")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def check_state(state: dict[str, Tensor], expected: dict[str, Tensor], *, source: str) -> None:
    """Refuses weights that are not of the expected network.

    Raises:
        ConfigError: names the first missing, unexpected, misshapen or non-finite tensor.
    """
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in expected]
    if missing or unexpected:
        parts = [f"{len(missing)} tensors are missing (first: {missing[0]})"] if missing else []
        parts += [f"{len(unexpected)} are unexpected (first: {unexpected[0]})"] if unexpected else []
        raise ConfigError(f"{source} is another architecture: {', '.join(parts)}; compare base.baseline.model.")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ConfigError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, but the model needs "
                f"{tuple(expected[name].shape)}; compare base.baseline.model and the data set."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{source}: {name} holds NaN or infinite values: use an intact checkpoint.")
