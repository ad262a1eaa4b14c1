"""Which quantizer sits where: a scheme applied to the quantization points of a network."""

from torch import nn

from trainables.config import QuantScheme
from trainables.models.units import QuantPoint, Unit, quant_points, units
from trainables.quant.lsq import LsqQuantizer

EDGES = {"stem", "classifier"}


def bits_at(point: QuantPoint, scheme: QuantScheme) -> int:
    """The bit width of a point: edges and the residual stream have their own."""
    if point.weight:
        return scheme.edge_bits if point.role in EDGES else scheme.w_bits
    if point.role == "classifier":
        return scheme.edge_bits
    return max(scheme.a_bits, scheme.residual_bits) if point.role == "residual" else scheme.a_bits


def attach_quantizers_(model: nn.Module, scheme: QuantScheme) -> None:
    """Puts a quantizer at every point; the steps are 1 until they are calibrated or loaded."""
    weights = {unit.weight_point: unit.layer.weight for unit in units(model).values()}
    for point in quant_points(model).values():
        shape: tuple[int, ...] = ()
        if point.weight:
            weight = weights[point]
            shape = (weight.shape[0], *[1] * (weight.ndim - 1))
        point.quantizer = LsqQuantizer(bits_at(point, scheme), signed=point.signed, step_shape=shape)


def weight_quantizer(unit: Unit) -> LsqQuantizer:
    """The quantizer of a unit's weight; the network must have one."""
    quantizer = unit.weight_point.quantizer
    assert isinstance(quantizer, LsqQuantizer)
    return quantizer


def activation_quantizers(model: nn.Module) -> dict[str, LsqQuantizer]:
    """The activation quantizers by the name of their point, in forward order."""
    return {
        name: point.quantizer
        for name, point in quant_points(model).items()
        if not point.weight and isinstance(point.quantizer, LsqQuantizer)
    }
