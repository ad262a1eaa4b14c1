"""What one forward pass computes: its operations on activations, found by running a network on a blank image.

A quantizer is an operation of its own, which writes a tensor of its bits; its arithmetic is left out.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.config import FLOAT_BITS, Architecture
from trainables.models.quantizer import Quantizer
from trainables.models.units import QuantPoint, evaluating, quant_points, units

QUANTIZE = "quantize"
"""The name of the operation of an activation point that has a quantizer."""


@dataclass(frozen=True)
class Op:
    """One operation on activations; tensors are numbered, 0 is the image.

    `name` is torch's name of the function. `output` is one of `inputs` where the operation works in place or
    returns what it was given. `elements` are those of the output, for one image. `bits` are a quantizer's; every
    other operation has 32.
    """

    name: str
    unit: str | None
    inputs: tuple[int, ...]
    output: int
    elements: int
    bits: int = FLOAT_BITS


def trace(model: nn.Module, architecture: Architecture) -> list[Op]:
    """Returns the operations of one image in order, in eval mode.

    Any network whose activations pass through torch functions can be traced; weights do not matter, and the
    meta device will do (its first convolution costs 2 s of imports).
    """
    shape = (1, architecture.channels, architecture.image_size, architecture.image_size)
    recorder = _Recorder(torch.zeros(shape, device=next(model.parameters()).device))
    with torch.no_grad(), evaluating(model), _quantizers_aside(model) as bits, ExitStack() as hooks:
        _add_hooks(model, bits, recorder, hooks)
        with recorder:
            logits = model(recorder.image)
    assert recorder.knows(logits), "the output comes from the image"
    return recorder.ops


def point_bits(point: QuantPoint) -> int:
    """Returns the bits of the quantizer at a point; 32 where there is none."""
    return point.quantizer.bits if isinstance(point.quantizer, Quantizer) else FLOAT_BITS


class _Recorder(TorchFunctionMode):
    """A mode in which every torch function that reads a tensor made from the image is noted."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self.ops: list[Op] = []
        self.unit: str | None = None
        self._tensors = [image]  # kept, since the id of a dead tensor would be given out again
        self._numbers = {id(image): 0}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.note(getattr(func, "__name__", "?"), [*args, *(kwargs or {}).values()], out)
        return out

    def note(self, name: str, read: Iterable[Any], written: Any, bits: int = FLOAT_BITS) -> None:
        """Adds an operation for each tensor written, if a known one was read."""
        inputs = tuple(self._numbers[id(x)] for x in _flat(read) if self.knows(x))
        for tensor in _flat([written]) if inputs else ():
            if not self.knows(tensor):
                self._numbers[id(tensor)] = len(self._tensors)
                self._tensors.append(tensor)
            self.ops.append(Op(name, self.unit, inputs, self._numbers[id(tensor)], tensor.numel(), bits))

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor comes from the image."""
        return id(tensor) in self._numbers


@contextmanager
def _quantizers_aside(model: nn.Module) -> Iterator[dict[QuantPoint, int]]:
    """Takes the quantizers away for a while, and yields the bits of those of activations."""
    quantized = {point: point.quantizer for point in quant_points(model).values() if point.quantizer is not None}
    bits = {point: point_bits(point) for point in quantized if not point.weight}
    try:
        for point in quantized:
            point.quantizer = None
        yield bits
    finally:
        for point, quantizer in quantized.items():
            point.quantizer = quantizer


def _add_hooks(model: nn.Module, bits: Mapping[QuantPoint, int], recorder: _Recorder, hooks: ExitStack) -> None:
    """Lets the recorder know where the network quantizes and which unit runs, as long as `hooks` is open."""

    def quantize(point: nn.Module, _read: Any, out: Tensor) -> Tensor:
        fresh = out.view(out.shape)  # a tensor of its own, since others may read the one before
        recorder.note(QUANTIZE, [fresh], fresh, bits[cast(QuantPoint, point)])
        return fresh

    for point in bits:
        hooks.enter_context(point.register_forward_hook(quantize))
    for name, unit in units(model).items():
        hooks.enter_context(unit.register_forward_pre_hook(lambda *_, name=name: setattr(recorder, "unit", name)))
        hooks.enter_context(unit.register_forward_hook(lambda *_: setattr(recorder, "unit", None)))


def _flat(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _flat(value)
