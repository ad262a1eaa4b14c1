"""Activations in an ONNX graph: float32, or integer codes between a quantizer and the layers that read it."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from trainables.errors import ConfigError
from trainables.export.onnx.nodes import FLOAT, Nodes
from trainables.models.dynamic_quantizer import DynamicQuantizer
from trainables.models.quantizer import Quantizer


@dataclass(frozen=True)
class Grid:
    """A grid of codes c that mean (c − zero) · step, two constants of the graph that are named after the quantizer."""

    quantizer: str
    step: np.float32
    zero: np.ndarray

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two constants."""
        return f"{self.quantizer}.step", f"{self.quantizer}.zero"


@dataclass(frozen=True)
class Value:
    """A tensor of the graph by name: float32 when it has no grid."""

    name: str
    grid: Grid | None = None

    @property
    def is_uint8(self) -> bool:
        """Whether it has codes that pooling and integer kernels read."""
        return self.grid is not None and self.grid.zero.dtype == np.uint8


def quantize(nodes: Nodes, x: Value, quantizer: nn.Module | None, name: str) -> Value:
    """Returns the codes of a float value; the value itself when there is no quantizer.

    Codes of up to 8 bits are uint8, signed ones around 128: runtimes have integer kernels for a convolution only
    when its input and output have the same type. Codes outside a narrower range are clipped as integers, since a
    clip before QuantizeLinear would keep it from being fused with the convolution.

    Raises:
        ConfigError: ranges are dynamic, or signed activations have one bit.
    """
    if isinstance(quantizer, DynamicQuantizer) or (isinstance(quantizer, Quantizer) and quantizer.binary):
        raise ConfigError(
            "ONNX files are not written for activations with dynamic ranges or of one signed bit: use model.mbq."
        )
    if not isinstance(quantizer, Quantizer):
        return x
    step = np.float32(quantizer.safe_step().item())
    if quantizer.bits > 8:
        return _quantize_wide(nodes, x, quantizer, step, name)
    grid = Grid(name, step, np.array(128 if quantizer.qn else 0, np.uint8))
    codes = _codes(nodes, x.name, grid)
    low, high = int(grid.zero) - quantizer.qn, int(grid.zero) + quantizer.qp
    if (low, high) != (0, 255):
        ends = [nodes.constant(f"uint8.{end}", np.array(end, np.uint8)) for end in (low, high)]
        codes = nodes.add("Clip", codes, *ends, name=f"{name}.q.clip")
    return Value(codes, grid)


def dequantized(nodes: Nodes, x: Value) -> str:
    """Returns a value as float32, by DequantizeLinear: an integer kernel may replace the layer that reads it."""
    if x.grid is None:
        return x.name
    return nodes.add("DequantizeLinear", x.name, *x.grid.names, name=f"{x.name}.f")


def as_float(nodes: Nodes, x: Value) -> str:
    """Returns a value as float32, by plain arithmetic, in which no runtime looks for an integer kernel."""
    if x.grid is None:
        return x.name
    y = nodes.add("Cast", x.name, name=f"{x.name}.cast", to=FLOAT)
    if x.grid.zero:
        y = nodes.add("Sub", y, nodes.constant("float.128", np.float32(x.grid.zero)), name=f"{x.name}.sub")
    return nodes.add("Mul", y, x.grid.names[0], name=f"{x.name}.mul")


def _quantize_wide(nodes: Nodes, x: Value, quantizer: Quantizer, step: np.float32, name: str) -> Value:
    """Returns codes of 16 bits; no runtime clips such integers, so that −2^15, which is unused, is clipped before."""
    source, signed = x.name, quantizer.qn > 0
    if signed:
        lowest = nodes.constant(f"{name}.lowest", np.float32(-quantizer.qn * step))
        source = nodes.add("Clip", source, lowest, name=f"{name}.q.clip")
    grid = Grid(name, step, np.array(0, np.int16 if signed else np.uint16))
    return Value(_codes(nodes, source, grid), grid)


def _codes(nodes: Nodes, source: str, grid: Grid) -> str:
    """Adds the node that rounds a float tensor to codes of a grid."""
    step, zero = grid.names
    constants = nodes.constant(step, grid.step), nodes.constant(zero, grid.zero)
    return nodes.add("QuantizeLinear", source, *constants, name=f"{grid.quantizer}.q")
