"""Which quantizer sits where: a scheme applied to the quantization points of a network."""

from torch import nn

from trainables.config import FLOAT_BITS, QUANTIZERS, QuantScheme
from trainables.errors import InfeasiblePoint
from trainables.models.dynamic_quantizer import DynamicQuantizer
from trainables.models.quantizer import Quantizer
from trainables.models.units import Unit, quant_points, units


def attach_quantizers_(model: nn.Module, scheme: QuantScheme) -> None:
    """Puts a quantizer at every point that the scheme does not leave float; steps are 1 until they are set.

    Raises:
        InfeasiblePoint: the scheme names a layer that the network does not have.
    """
    named = units(model)
    unknown = sorted(set(scheme.w_bits_by_layer) - set(named))
    if unknown:
        raise InfeasiblePoint(f"w_bits_by_layer names {unknown[0]!r}; the layers are {', '.join(named)}.")
    of_weights = {
        unit.weight_point: (scheme.weight_bits(name, unit.role), step_shape(unit, scheme))
        for name, unit in named.items()
    }
    for point in quant_points(model).values():
        bits, shape = of_weights[point] if point.weight else (scheme.activation_bits(point.role), ())
        point.quantizer = None
        if bits == FLOAT_BITS:
            continue
        if scheme.activation_ranges == "dynamic" and not point.weight:
            point.quantizer = DynamicQuantizer(bits)
        else:
            point.quantizer = QUANTIZERS[scheme.quantizer](
                bits, signed=point.signed, weight=point.weight, step_shape=shape, limit=point.limit
            )


def detach_quantizers_(model: nn.Module) -> None:
    """Takes every quantizer away: the network computes in float again."""
    for point in quant_points(model).values():
        point.quantizer = None


def step_shape(unit: Unit, scheme: QuantScheme) -> tuple[int, ...]:
    """Returns the shape of a weight's steps: () for one per tensor, (C, 1, …) for one per output channel."""
    if scheme.granularity == "tensor":
        return ()
    weight = unit.layer.weight
    return (weight.shape[0], *[1] * (weight.ndim - 1))


def weight_quantizer(unit: Unit) -> Quantizer:
    """Returns the quantizer of a unit's weight; the unit must have one."""
    quantizer = unit.weight_point.quantizer
    assert isinstance(quantizer, Quantizer)
    return quantizer


def quantized_units(model: nn.Module) -> dict[str, Unit]:
    """Returns the units whose weight has a quantizer, by name, in forward order."""
    return {name: unit for name, unit in units(model).items() if isinstance(unit.weight_point.quantizer, Quantizer)}


def activation_quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """Returns the quantizers of activations that have steps, by the name of their point, in forward order."""
    points = quant_points(model).items()
    return {name: p.quantizer for name, p in points if not p.weight and isinstance(p.quantizer, Quantizer)}
