"""Checkpoint files from elsewhere: read without executing anything, and fitted to a network by name or by order."""

import argparse
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from trainables.errors import ConfigError
from trainables.models.exported_file import SUFFIX as EXPORTED
from trainables.models.exported_file import read_exported

PLAIN = ("", "state_dict", "model_state_dict", "model", "net", "weights")
"""Keys of the weights themselves, best first, where training scripts save averaged ones beside them."""
PREFIXES = re.compile(r"^((module|_orig_mod)\.)+")
"""What DataParallel and torch.compile put before every name."""
MAX_DEPTH = 2
"""Levels of dictionaries that are opened to find weights: scripts save `{"model": {"state_dict": …}}` at most."""
ACCURACY = re.compile(r"acc|prec1|top1", re.IGNORECASE)
"""Names under which training scripts save how good the weights are."""
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    type(np.dtype("float64")),
    type(np.dtype("float32")),
    type(np.dtype("int64")),
    np.float64(0).__reduce__()[0],
    np.zeros(0).__reduce__()[0],
]
"""Classes beside tensors whose objects hold values alone: settings and numbers that training scripts save."""
FOREIGN = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
"""How torch names a class that it refuses."""
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
    """Reads a checkpoint for a network with this state dict, or raises ConfigError: unreadable, or another network.

    Of several sets of weights in a file, such as an average beside the weights themselves, the first one with the most
    of the network's names is taken; those under a plain name such as `state_dict` come first.
    """
    found = {where: _unprefixed(state, expected) for where, state in read_weights(path).items()}
    best = max(found, key=lambda where: sum(name in expected for name in found[where]))
    source = f"{path} ({best})" if best and len(found) > 1 else str(path)
    return fit(_as_float(found[best], source), expected, source=source, ordered=path.suffix != UNORDERED)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Reads the first set of weights in a file; errors are those of `read_weights`."""
    return _unprefixed(next(iter(read_weights(path).values())), {})


def read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """Reads every set of weights in a file of safetensors, torch.save or torch.export.save, by where it lies.

    Nothing is executed. Counters and settings beside the tensors are left out.

    Raises:
        ConfigError: the file is missing, empty or no checkpoint, or holds no tensors, or objects of a foreign class.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a checkpoint file.") from err
    way_out = "save the weights with safetensors, or with torch.save(model.state_dict(), path)"
    if not content:
        raise ConfigError(f"{path} is empty: {way_out}.")
    if path.suffix == EXPORTED:
        return {"": read_exported(content, str(path), way_out)}
    if path.suffix == UNORDERED:
        try:
            return {"": load_safetensors(content)}
        except SafetensorError as err:
            raise ConfigError(f"{path} is no safetensors file ({err}): {way_out}.") from err
    loaded = _loaded(content, path, way_out)
    sets = dict(_weights_in(loaded))
    if not sets:
        raise ConfigError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors: {way_out}.")
    rank = {name: place for place, name in enumerate(PLAIN)}
    return dict(sorted(sets.items(), key=lambda item: rank.get(item[0].rpartition(".")[2], len(rank))))


def _loaded(content: bytes, path: Path, way_out: str) -> Any:
    """Unpickles tensors and plain values alone; of other classes, settings of argparse and numbers of numpy."""
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as err:
        # torch.load raises whatever its reader meets in a foreign file.
        foreign = FOREIGN.search(str(err))
        cause = f"it holds an object of {foreign.group(1)}, which would be executed" if foreign else type(err).__name__
        raise ConfigError(f"{path} is no file of plain weights ({cause}): {way_out}.") from err


def _weights_in(value: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields the dictionaries that hold tensors, with the keys that lead there."""
    if not isinstance(value, Mapping):
        return
    tensors = {str(name): part for name, part in value.items() if isinstance(part, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield where, tensors
    for name, part in value.items():
        if depth < MAX_DEPTH:
            yield from _weights_in(part, f"{where}.{name}".lstrip("."), depth + 1)


def _unprefixed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors without what DataParallel, torch.compile and trainers put before every name.

    `module` and `_orig_mod` always go; another first part that most names share goes where more of the network's own
    names are there without it, and with it what has another one, if the network is whole then. Counts, such as that of
    an average, go as well.
    """
    names = {name: PREFIXES.sub("", name) for name in state}
    best = names = {name: n for name, n in names.items() if n in expected or not _is_count(n, state[name])}
    needed = {name for name in expected if not name.endswith(COUNTER)}
    while most := Counter(n.partition(".")[0] for n in names.values() if "." in n).most_common(1):
        first = most[0][0]
        inner = {name: PREFIXES.sub("", n[len(first) + 1 :]) for name, n in names.items() if n.startswith(f"{first}.")}
        if len(inner) < len(names) and not needed <= set(inner.values()):
            break
        names = inner
        if sum(n in expected for n in names.values()) > sum(n in expected for n in best.values()):
            best = names
    return {short: state[name] for name, short in best.items()}


def _is_count(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a whole number by itself, but not one that a batch norm has."""
    return not tensor.ndim and not tensor.is_floating_point() and not name.endswith(COUNTER)


def _as_float(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Returns tensors in float32, or raises ConfigError: one of them is none that a network here can hold."""
    found = {}
    for name, tensor in state.items():
        kind = odd_kind(tensor)
        if kind:
            raise ConfigError(f"{source}: {name} is a {kind} tensor: save dense floating-point weights.")
        if name.endswith(("weight_orig", "weight_mask")):
            raise ConfigError(
                f"{source}: {name} is of torch.nn.utils.prune: call its `remove` on each module, then save."
            )
        found[name] = tensor.float() if tensor.is_floating_point() else tensor
    return found


def odd_kind(tensor: Tensor) -> str:
    """Returns why a tensor cannot be read as weights: it is sparse, quantized, complex or meta; empty if it can."""
    kinds = {
        "sparse": tensor.layout != torch.strided,
        "quantized": tensor.is_quantized,
        "complex": tensor.is_complex(),
        "meta": tensor.is_meta,
    }
    return next((kind for kind, found in kinds.items() if found), "")


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
        theirs = fitted.renamed.get(name, name)
        if expected[name].is_floating_point() and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ConfigError(f"{source}: {theirs} is {kind}: save floating-point weights.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{source}: {theirs} holds NaN or infinite values: use an intact checkpoint.")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ConfigError(f"{source}: {theirs} holds negative variances: use an intact checkpoint.")
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
    if path.suffix in (UNORDERED, EXPORTED):
        return {}
    loaded = _loaded(path.read_bytes(), path, "")
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    found = {str(name): value for name, value in named if ACCURACY.search(str(name))}
    numbers = {name: value.item() if _is_number(value) else value for name, value in found.items()}
    return {name: float(value) for name, value in numbers.items() if isinstance(value, int | float | np.number)}


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and not odd_kind(value)
