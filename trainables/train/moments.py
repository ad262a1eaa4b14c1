"""What a layer's inputs look like: their second moments, from which errors in its output follow."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.images import Images
from trainables.models.model import Model
from trainables.models.units import ConvUnit, Unit

ROWS = 131_072
"""Places of a convolution's input that are read, of all images together. More: time; fewer: noise in the moments."""
IMAGES = 32
"""Images whose places are laid out side by side at a time. More: memory; fewer: time."""
COLUMNS = 4_608
"""Inputs of an output that are fitted together, 512 channels of 3x3. More: a matrix of their products that costs
gigabytes and minutes; fewer: errors are made up for by fewer inputs."""
VALUES = 2**27
"""Numbers in the largest activation of a pass through two networks: a few gigabytes in all. Networks with larger ones
see fewer images."""
DAMPING = 0.01
"""The least share of the mean square of the inputs that is added to each: it keeps the equations solvable, and weights
near where they were. More: less is made up for; less: noise of the images gets into the weights. Where there are few
rows for each input, which are mostly noise, it is the number of inputs by that of rows."""


@dataclass(frozen=True)
class Moments:
    """The mean products of a layer's inputs, float64, by group of the layer: x is its input, y that of a float twin.

    `own` is x·x and `cross` is y·x, both (groups, K, K) for K inputs of each output; about their means if centered.
    They are means over so many `rows`.
    """

    own: Tensor
    cross: Tensor
    rows: int


def input_moments(unit: Unit, twin: Tensor, inputs: Tensor, columns: slice, *, centered: bool) -> Moments:
    """Returns the moments of a part of a layer's K inputs; `twin` and `inputs` hold the same images.

    Centered moments suit a layer whose bias can be chosen: it makes up for the mean of any error.
    """
    own = cross = mean_twin = mean = torch.zeros((), dtype=torch.float64, device=inputs.device)
    rows, start = 0, torch.zeros((), device=inputs.device)
    for pair in zip(columns_of(unit, twin), columns_of(unit, inputs), strict=True):
        y, x = (part[..., columns] for part in pair)
        if centered:  # float32 would lose small changes of large values
            start = start if start.ndim else x.mean(1, keepdim=True)
            y, x = y - start, x - start
        own, cross = own + (x.mT @ x).double(), cross + (y.mT @ x).double()
        mean_twin, mean = mean_twin + y.sum(1, keepdim=True).double(), mean + x.sum(1, keepdim=True).double()
        rows += x.shape[1]
    own, cross, mean_twin, mean = (total / rows for total in (own, cross, mean_twin, mean))
    if centered:
        own, cross = own - mean.mT @ mean, cross - mean_twin.mT @ mean
    return Moments(own, cross, rows)


def columns_of(unit: Unit, inputs: Tensor) -> Iterator[Tensor]:
    """Yields what each output is a weighted sum of, (groups, rows, K), some images at a time: a row for each place.

    Of large maps some places are left out, others in each part; in equally many maps of equal size the same ones.
    """
    every = _spacing(unit, inputs)
    for i, part in enumerate(inputs.split(IMAGES)):
        yield _columns(unit, part, every, (i // every % every, i % every))


def groups_of(unit: Unit) -> int:
    """Returns the groups of a unit's layer, 1 of a linear one."""
    return unit.layer.groups if isinstance(unit, ConvUnit) else 1


def _spacing(unit: Unit, inputs: Tensor) -> int:
    """Returns the distance along rows and columns between the places that are read: 1 reads all of them."""
    if not isinstance(unit, ConvUnit):
        return 1
    places = inputs.shape[0] * inputs.shape[2] * inputs.shape[3] // math.prod(unit.layer.stride)
    return max(1, math.isqrt(places // ROWS))


def _columns(unit: Unit, inputs: Tensor, every: int, first: tuple[int, int]) -> Tensor:
    """Returns what each output is a weighted sum of, at places that are so far from each other, from the first on."""
    if not isinstance(unit, ConvUnit):
        return inputs.reshape(1, -1, inputs.shape[-1])
    layer = unit.layer
    assert not isinstance(layer.padding, str), "networks are captured with numbers"
    (down, right), (rows, columns) = layer.stride, layer.padding
    padded = F.pad(inputs, (columns, columns, rows, rows))
    start = [
        at * step if at * step + (kernel - 1) * dilation < size else 0  # a small map has no place further on
        for at, step, kernel, dilation, size in zip(
            first, layer.stride, layer.kernel_size, layer.dilation, padded.shape[2:], strict=True
        )
    ]
    part = padded[:, :, start[0] :, start[1] :]
    found = F.unfold(part, layer.kernel_size, layer.dilation, stride=(down * every, right * every))
    grouped = found.view(len(inputs), layer.groups, -1, found.shape[-1])
    return grouped.permute(1, 0, 3, 2).reshape(layer.groups, -1, grouped.shape[2])


def penalty_of(own: Tensor, rows: int) -> Tensor:
    """Returns a share of the mean square of the inputs on the diagonal, (groups, K, K); never quite zero.

    `own` are the mean products of the inputs, (groups, K, K), over so many `rows`.
    """
    inputs = own.shape[-1]
    size = own.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    share = max(DAMPING, inputs / rows)
    return share * size[:, None, None] * torch.eye(inputs, dtype=own.dtype, device=own.device)


def batch_that_fits(model: Model, images: Images) -> Tensor:
    """Returns the images of one pass: all, or as many as keep the largest activation below `VALUES`."""
    batch, _ = next(images.batches(len(images)))
    largest = 1

    def note(_module: nn.Module, _args: object, out: object) -> None:
        nonlocal largest
        if isinstance(out, Tensor):
            largest = max(largest, out.numel())

    with ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(note))
        model(batch[:1])
    return batch[: max(1, VALUES // (2 * largest))]
