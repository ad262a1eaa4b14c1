"""A network's computation in evaluation mode as data: a list of steps that an exporter can follow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A unit by name: its input quantizer, weight layer, activation function and output quantizer."""

    unit: str


@dataclass(frozen=True)
class MaxPool:
    """The maximum over squares of `size` pixels that do not overlap."""

    size: int


@dataclass(frozen=True)
class Mean:
    """The mean over rows and columns: (N, C, H, W) → (N, C)."""


@dataclass(frozen=True)
class Residual:
    """The sum of the input and of what `body` makes of it."""

    body: tuple["Step", ...]


@dataclass(frozen=True)
class Quantize:
    """A quantization point by name, outside of a unit."""

    point: str


Step = Layer | MaxPool | Mean | Residual | Quantize
