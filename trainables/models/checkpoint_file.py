"""Checkpoint files from elsewhere: read without executing anything, and fitted to a network by name or by order."""

import io
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from trainables.errors import ConfigError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts save the state dict beside other things."""
PREFIXES = re.compile(r"^((module|_orig_mod)\.)+")
"""What DataParallel and torch.compile put before every name."""
ACCURACY = re.compile(r"acc|prec1|top1", re.IGNORECASE)
"""Names under which training scripts save how good the weights are."""
UNORDERED = ".safetensors"
"""The suffix of the format whose tensors are sorted by name and size, not in the order of layers."""
COUNTER = "num_batches_tracked"
"""A tensor of batch norm that nothing here needs, so it may be missing."""


@dataclass(frozen=True)
class Fitted:
    """The tensors of a file under a model's names; `renamed` maps a model's name to another one in the file."""

    state: dict[str, Tensor]
    renamed: dict[str, str]

    @property
    def summary(self) -> str:
        """Says in one line what was renamed; empty when nothing was."""
        if not self.renamed:
            return ""
        (first, theirs), (last, final) = (list(self.renamed.items())[place] for place in (0, -1))
        return (
            f"{len(self.renamed)} tensors matched by order and shape, since the file has other names: "
            f"{theirs} is {first}, ..., {final} is {last}"
        )


def read_fitted(path: Path, expected: Mapping[str, Tensor]) -> Fitted:
    """Reads a checkpoint for a network with this state dict, or raises ConfigError: unreadable, or another network."""
    return fit(read_checkpoint(path), expected, source=str(path), ordered=path.suffix != UNORDERED)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Reads a state dict of safetensors or of torch.save. Nothing in the file is executed.

    Raises:
        ConfigError: the file is missing, empty or no checkpoint, or holds more than tensors.
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
        if path.suffix == UNORDERED:
            tensors: dict[str, Tensor] = load_safetensors(content)
            return tensors
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except SafetensorError as err:
        raise ConfigError(f"{path} is no safetensors file ({err}): {way_out}.") from err
    except Exception as err:
        # torch.load raises whatever its reader meets in a foreign file.
        raise ConfigError(f"{path} is no file of plain weights ({type(err).__name__}): {way_out}.") from err
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ConfigError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors: {way_out}.")
    return {PREFIXES.sub("", str(name)): tensor for name, tensor in loaded.items()}


def fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, source: str, ordered: bool = True) -> Fitted:
    """Gives the tensors of a file, `state`, the names that a network has for them.

    They go by name where most names are the network's own, and else one by one in their order, if every one of them
    has the same last name (weight, bias, running_mean, running_var) and shape. `num_batches_tracked` may be missing.
    `expected` is the network's own state dict in forward order, `source` the name of the file in errors, and `ordered`
    says whether the order in the file means something.

    Raises:
        ConfigError: the file is of another network; names the first tensor that differs, or one that is not finite.
    """
    shared = sum(name in expected for name in state)
    if not state or 2 * shared > min(len(state), len(expected)):
        _check_names(state, expected, source)
        fitted = Fitted(dict(state), {})
    else:
        if not ordered:
            raise ConfigError(
                f"{source} is another architecture, or has other names than ours, such as {next(iter(state))}, and "
                "safetensors does not keep the order of layers: write it with torch.save(model.state_dict(), path)."
            )
        renamed = _by_order(state, expected, source)
        fitted = Fitted({ours: state[theirs] for ours, theirs in renamed.items()}, renamed)
    for name, tensor in fitted.state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            theirs = fitted.renamed.get(name, name)
            raise ConfigError(f"{source}: {theirs} holds NaN or infinite values: use an intact checkpoint.")
    return fitted


def _check_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    missing = [n for n in expected if n not in state and not n.endswith(COUNTER)]
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


def _by_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> dict[str, str]:
    """Returns the file's name of each tensor of the network."""
    ours, theirs = ([n for n in names if not n.endswith(COUNTER)] for names in (expected, state))
    for place, (own, other) in enumerate(itertools.zip_longest(ours, theirs), start=1):
        if own is None or other is None or _traits(own, expected) != _traits(other, state):
            raise ConfigError(
                f"{source} is another architecture: its names are not ours, and in order tensor {place} is "
                f"{_shown(other, state)} there and {_shown(own, expected)} in the model; "
                "compare base.baseline.model and the data set."
            )
    return dict(zip(ours, theirs, strict=True))


def _traits(name: str, tensors: Mapping[str, Tensor]) -> tuple[str, torch.Size]:
    """Returns what a tensor has whatever its layer is called: its last name and its shape."""
    return name.rpartition(".")[2], tensors[name].shape


def _shown(name: str | None, tensors: Mapping[str, Tensor]) -> str:
    return "nothing" if name is None else f"{name} {tuple(tensors[name].shape)}"


def reported_accuracy(path: Path) -> dict[str, float]:
    """Returns the accuracies that a checkpoint names beside its weights, by name; none where it holds weights alone."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever the reader meets in a foreign file; it was read for its weights before
        return {}
    named = loaded.items() if isinstance(loaded, dict) else ()
    found = {str(name): value for name, value in named if ACCURACY.search(str(name))}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
