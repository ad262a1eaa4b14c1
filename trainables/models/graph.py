"""A network's computation in evaluation mode as data: a list of steps that an exporter can follow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A step that runs the unit of this name: input quantizer, weight layer, activation and output quantizer."""

    unit: str


@dataclass(frozen=True)
class MaxPool:
    """A step that takes the maximum over squares of `size` x `size` pixels, which do not overlap."""

    size: int


@dataclass(frozen=True)
class Mean:
    """A step that takes the mean over rows and columns: (N, C, H, W) → (N, C)."""


@dataclass(frozen=True)
class Residual:
    """A step that adds its input to what `body` makes of it."""

    body: tuple["Step", ...]


@dataclass(frozen=True)
class Quantize:
    """A step that runs the quantization point of this name, which is outside of units."""

    point: str


Step = Layer | MaxPool | Mean | Residual | Quantize
