"""capture: the graph and the weights of any torch module that classifies images, by torch.export.

The module is exported in evaluation mode, before its operators are taken apart, with a batch of any size. What does
not depend on the image is computed once and becomes a parameter, such as a standardized weight. What is left is
translated, operator by operator, into the list of `trainables.graph.operators`.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import ConfigError
from trainables.graph import torch_functions, torch_layers, torch_shapes
from trainables.graph.network_file import NetworkFile
from trainables.graph.translator import Translator

KNOWN = (torch_layers, torch_functions, torch_shapes)
"""The modules whose handlers the translator knows, since they are imported."""
BATCH = 61
"""Images of the example: a prime number of which no size of a network is a multiple, so that it is known again where
the module's code fixes the number of images."""


def capture(module: nn.Module, image: tuple[int, int, int]) -> NetworkFile:
    """Returns the graph and the weights of a module that takes images (N, C, H, W) and returns logits (N, classes).

    The module is left as it is, in evaluation mode. `about["copies"]` names the layers that are called more than once,
    and so have a copy of their weights at each place.

    Raises:
        ConfigError: the module cannot be exported, or has an operator that is not on the list; the message names the
            operator and the line of the module's source.
    """
    module.eval()
    _marker()
    try:
        example = torch.linspace(-1, 1, BATCH * math.prod(image)).view(BATCH, *image)
        with torch.no_grad(), _dropout_marked(), _errors_told_once():
            exported = torch.export.export(
                module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
            )
            exported = exported.run_decompositions({})
    except Exception as err:  # the exporter raises whatever the module's own code and torch's compiler raise
        reason = next((line for line in str(err).splitlines() if line.strip()), type(err).__name__)
        raise ConfigError(
            f"torch.export cannot follow {type(module).__name__} on images of {'x'.join(map(str, image))}: {reason}. "
            "Take out what depends on the values of tensors, or name the size of its images."
        ) from err
    return Translator(exported, module).run(image)


@cache
def _marker() -> Any:
    """Returns an operator that changes nothing and marks a dropout, which evaluation mode leaves no trace of."""

    @torch.library.custom_op("tune_app::mark_dropout", mutates_args=())
    def mark_dropout(x: Tensor, p: float, channels: bool) -> Tensor:
        return x.clone()

    mark_dropout.register_fake(lambda x, p, channels: torch.empty_like(x))
    return mark_dropout


@contextmanager
def _errors_told_once() -> Iterator[None]:
    """Keeps torch from writing the traceback of an error that it raises as well, as long as the context is open."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _dropout_marked() -> Iterator[None]:
    """Lets each dropout that only training has leave a mark, as long as the context is open: layers call it too."""

    def marking(function: Callable[..., Tensor], *, channels: bool) -> Callable[..., Tensor]:
        def called(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
            if training:
                return function(input, p, training, inplace)
            marked: Tensor = _marker()(input, p, channels)
            return marked

        return called

    element, channel = F.dropout, F.dropout2d
    F.dropout, F.dropout2d = marking(element, channels=False), marking(channel, channels=True)
    try:
        yield
    finally:
        F.dropout, F.dropout2d = element, channel
