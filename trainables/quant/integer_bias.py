"""Biases that the int32 accumulators of integer kernels hold exactly.

Such a kernel adds up products of codes and the bias, in units of input step times weight step, and rounds a bias
that lies between two units. Half a unit moves outputs across rounding borders, and with them predictions. A
network whose biases were whole units when it was evaluated computes the same function on integers.
"""

import torch
from torch import Tensor, nn

from trainables.graph.graph import IMAGE
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Model
from trainables.models.placing import CARRIES
from trainables.models.quantizer import Quantizer
from trainables.models.units import LinearUnit, QuantPoint, quant_points, units

MAX_BITS = 8
"""The widest inputs and weights that integer kernels multiply."""
MAX_BIAS = 2**30
"""The largest bias in units: half of an int32 accumulator, so that the other half is left for the products."""


def code_gain(bits: int) -> int:
    """Returns the factor that stretches codes of fewer than 7 bits to 7 bits, which makes the units finer.

    Kernels multiply 8-bit weights, but with 7 bits pairs of products with uint8 inputs fit in the int16 of processors
    without VNNI.
    """
    return int(2 ** max(0, 7 - bits))


def whole_bias(bias: Tensor, multiplier: Tensor, unit_step: Tensor | None) -> Tensor:
    """Moves biases (outputs,) float32 to the nearest multiples of their units |multiplier| · `unit_step`.

    A bias stays as it is without a step, where the multiplier is 0, and where it has too many units.
    """
    if unit_step is None:
        return bias
    unit = multiplier.abs().double() * unit_step.double()
    codes = (bias.double() / unit).round()
    return torch.where((unit > 0) & (codes.abs() < MAX_BIAS), codes * unit, bias.double()).to(bias.dtype)


def unit_steps(model: Model) -> dict[str, Tensor | None]:
    """Returns by unit what makes its multiplier the unit of its bias, or None where no integer kernel can run."""
    named, points, graph = units(model), quant_points(model), model.graph()
    found: dict[str, Tensor | None] = {}
    of: dict[str, Tensor | None] = {IMAGE: None}
    for node in graph.nodes:
        step = of[node.inputs[0]] if node.inputs else None
        if node.operator == UNIT:
            unit = named[node.name]
            entry = (
                _step(unit.in_point) if isinstance(unit, LinearUnit) and isinstance(unit.in_point, QuantPoint) else step
            )
            weight = _narrow(unit.weight_point)
            found[node.name] = None if entry is None or weight is None else entry / code_gain(weight.bits)
            step = _step(unit.out_point)
        elif node.operator == QUANTIZE:
            step = step if points[node.name].quantizer is None else _step(points[node.name])
        elif node.operator not in CARRIES:
            step = None
        of[node.name] = step
    return found


def _step(point: nn.Module) -> Tensor | None:
    quantizer = _narrow(point)
    return None if quantizer is None else quantizer.safe_step().detach()


def _narrow(point: nn.Module) -> Quantizer | None:
    """Returns a point's quantizer if integer kernels can read its codes."""
    quantizer = point.quantizer if isinstance(point, QuantPoint) else None
    return quantizer if isinstance(quantizer, Quantizer) and quantizer.bits <= MAX_BITS else None
