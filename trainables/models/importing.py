"""Networks of one's own: the module that a name stands for, its weights, and how both become a graph's tensors."""

import importlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables.errors import ConfigError
from trainables.graph.capture import capture
from trainables.graph.network_file import NetworkFile
from trainables.models.checkpoint_file import Fitted, odd_kind, read_fitted, reported_accuracy
from trainables.models.unit_state import own_model

TOLERANCE = 1e-5
"""How far outputs of the captured network may lie from the module's, relative to the largest output."""
ALONE = 1e-3
"""How far the output of an image may lie from what it is beside others: kernels differ by less, statistics by more."""


def capture_network(
    network: str,
    arguments: Mapping[str, Any],
    image: tuple[int, int, int],
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
) -> NetworkFile:
    """Returns the network that a callable makes, as data, with the weights of a checkpoint or else its own.

    `network` is `module:callable`; the working directory is searched too. Weights that the callable draws follow
    `seed`. The network's outputs are compared with the module's on random images.

    Raises:
        ConfigError: there is no such module or callable, it makes no network, it cannot be captured, or the checkpoint
            is of another one.
    """
    torch.manual_seed(seed)
    module = make_module(network, arguments)
    _make_lazy_layers(module, image)
    about: dict[str, Any] = {"network": network, "arguments": dict(arguments)}
    if checkpoint is not None:
        fitted = read_fitted(checkpoint, module.state_dict())
        module.load_state_dict(module.state_dict() | fitted.state)
        about |= _about_checkpoint(checkpoint, fitted)
    return captured_network(module, image, about=about)


def captured_network(
    module: nn.Module, image: tuple[int, int, int], *, about: Mapping[str, Any] | None = None
) -> NetworkFile:
    """Returns a live module as data; its weights are copied, and its outputs compared.

    Raises:
        ConfigError: it cannot be captured, a tensor is not what a network can hold, or the outputs differ.
    """
    _make_lazy_layers(module, image)
    _check_tensors(module)
    captured = capture(module, image)
    network = NetworkFile(captured.graph, captured.state, {**(about or {}), **captured.about})
    _check_outputs(module, network)
    return network


def make_module(network: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Calls what `module:callable` names and returns the network that it makes, or raises ConfigError."""
    place, _, name = network.partition(":")
    if not place or not name:
        raise ConfigError(f"network must be module:callable, such as torchvision.models:resnet18, but is {network!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made: Any = importlib.import_module(place)
        for part in name.split("."):
            made = getattr(made, part)
    except (ImportError, AttributeError, ValueError) as err:
        raise ConfigError(
            f"network {network} is not there: {err}. Name a module on Python's path and what is in it."
        ) from err
    except Exception as err:  # the user's module runs while it is imported
        raise ConfigError(f"network {network} cannot be imported: {type(err).__name__}: {err}.") from err
    try:
        module = made if isinstance(made, nn.Module) else made(**arguments)
    except Exception as err:  # the user's code
        raise ConfigError(
            f"network {network} cannot be made with {dict(arguments)}: {type(err).__name__}: {err}. Mend `arguments`."
        ) from err
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"network {network} makes a {type(module).__name__}, not a torch module: name another callable."
        )
    return module


@torch.no_grad()
def _make_lazy_layers(module: nn.Module, image: tuple[int, int, int]) -> None:
    """Lets layers that take their sizes from their first images see some."""
    if not any(is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
        return
    try:
        module.eval()(torch.zeros(2, *image))
    except Exception as err:  # the user's code
        shown = "x".join(map(str, image))
        raise ConfigError(
            f"the network cannot be run on images of {shown}: {type(err).__name__}: {err}. Name the size that it takes."
        ) from err


def _about_checkpoint(path: Path, fitted: Fitted) -> dict[str, Any]:
    reported = reported_accuracy(path)
    more = {"reported": reported} if reported else {}
    return {"checkpoint": path.name, "matched": len(fitted.state), "renamed": fitted.summary, **more}


def _check_tensors(module: nn.Module) -> None:
    """Refuses tensors that no graph holds, and values with which a network makes no sense."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        kind = odd_kind(tensor)
        if kind:
            raise ConfigError(f"{name} is a {kind} tensor: give the network with dense floating-point weights.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{name} holds NaN or infinite values: use intact weights.")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ConfigError(f"{name} holds negative variances: use intact weights.")
    pruned = [name for name, _ in module.named_buffers() if name.endswith("weight_mask")]
    if pruned:
        raise ConfigError(
            f"{pruned[0]} is a mask of torch.nn.utils.prune: call its `remove` on each pruned module before."
        )


@torch.no_grad()
def _check_outputs(module: nn.Module, network: NetworkFile) -> None:
    """Refuses a network whose outputs are not those of the module, for one image and for several."""
    channels, height, width = network.graph.image
    images = torch.randn(5, channels, height, width, generator=torch.Generator().manual_seed(0))
    expected = _only_tensor(module.eval()(images))
    if not bool(torch.isfinite(expected).all()):
        raise ConfigError("the network's outputs on random images are not finite: use intact weights.")
    model, _ = own_model(network)
    found = model.eval()(images)
    scale = max(float(expected.abs().max()), math.ulp(0.0))
    if found.shape != expected.shape or float((found - expected).abs().max()) > TOLERANCE * scale:
        raise ConfigError(
            "the captured network computes something else than the module: its outputs depend on the number of images, "
            "or on chance; take that out of its evaluation mode."
        )
    alone, theirs = model(images[:1]), _only_tensor(module(images[:1]))
    if theirs.shape != alone.shape:
        raise ConfigError(
            f"for a single image the module returns the shape {tuple(theirs.shape)}, not {tuple(alone.shape)}: flatten "
            "from dimension 1, or name the dimensions to squeeze."
        )
    same = torch.equal(alone.argmax(1), theirs.argmax(1))
    if not same or float((alone - expected[:1]).abs().max()) > ALONE * scale:
        raise ConfigError("the module's answer depends on the other images of a batch: take that out.")


def _only_tensor(outputs: Any) -> Tensor:
    """Returns the one tensor that a module returns, whatever holds it."""
    held = outputs
    try:
        while not isinstance(held, Tensor):
            [held] = held.values() if isinstance(held, Mapping) else held
    except (TypeError, ValueError) as err:
        kind = type(outputs).__name__
        raise ConfigError(f"the network returns a {kind} that holds more than logits: let it return these.") from err
    return held
