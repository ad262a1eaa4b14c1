"""The network in Brevitas' layers, with the quantizers that its layers take when none is named.

Weights: Int8WeightPerChannelFloat (narrow range; the scale is the largest magnitude of each channel, and gradients
flow through it), at the scheme's bits. Activations: Uint8ActPerTensorFloat behind ReLU and Int8ActPerTensorFloat
elsewhere (a learned scale). Brevitas reads the first scales from 300 steps; here it is one, in the warm-up, so that
later steps are timed. BREVITAS_JIT=1 with its native extension took as long (3.7 and 3.2 times the float step in
place of 3.8 and 3.0, single runs).
"""

from collections.abc import Callable
from functools import partial

from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat, Uint8ActPerTensorFloat
from torch import Tensor, nn

from trainables.config import FLOAT_BITS, QuantScheme
from trainables.graph.graph import IMAGE, Node
from trainables.graph.operators import OPERATORS
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Model
from trainables.models.units import ConvUnit, LinearUnit, QuantPoint, quant_points, units


def quantized(net: Model, scheme: QuantScheme) -> nn.Module:
    """Returns the graph of a float network with other units and points; the weights are the network's own."""
    return Quantized(net, scheme).train()


class Quantized(nn.Module):
    """A network that computes a graph node by node."""

    def __init__(self, net: Model, scheme: QuantScheme) -> None:
        super().__init__()
        self.nodes, self.output = net.graph().nodes, net.graph().output
        self.steps = [_part(node, net, scheme) for node in self.nodes]
        self.parts = nn.ModuleList(step for step in self.steps if isinstance(step, nn.Module))

    def forward(self, x: Tensor) -> Tensor:
        values = {IMAGE: x}
        for node, step in zip(self.nodes, self.steps, strict=True):
            values[node.name] = step(*(values[name] for name in node.inputs))
        return values[self.output]


def _part(node: Node, net: Model, scheme: QuantScheme) -> Callable[..., Tensor]:
    if node.operator == UNIT:
        unit = units(net)[node.name]
        bits = scheme.weight_bits(node.name, unit.role)
        return _conv(unit, bits, scheme) if isinstance(unit, ConvUnit) else _linear(unit, bits, scheme)
    if node.operator == QUANTIZE:
        return _activation(quant_points(net)[node.name], scheme)
    operator = OPERATORS[node.operator]
    if operator.run is None:
        return net.get_submodule(node.name)
    return partial(operator.run, **node.attributes)


def _conv(unit: ConvUnit, bits: int, scheme: QuantScheme) -> nn.Module:
    own = unit.layer
    conv = QuantConv2d(
        own.in_channels,
        own.out_channels,
        own.kernel_size,
        stride=own.stride,
        padding=own.padding,
        groups=own.groups,
        bias=own.bias is not None,
        weight_quant=Int8WeightPerChannelFloat,
        weight_bit_width=bits,
    )
    conv.weight = own.weight
    point = unit.out_point
    return nn.Sequential(conv, unit.bn, _activation(point, scheme) if isinstance(point, QuantPoint) else nn.Identity())


def _linear(unit: LinearUnit, bits: int, scheme: QuantScheme) -> nn.Module:
    own = unit.layer
    linear = QuantLinear(
        own.in_features, own.out_features, bias=True, weight_quant=Int8WeightPerChannelFloat, weight_bit_width=bits
    )
    linear.weight, linear.bias = own.weight, own.bias
    point = unit.in_point
    return nn.Sequential(_activation(point, scheme) if isinstance(point, QuantPoint) else nn.Identity(), linear)


def _activation(point: QuantPoint, scheme: QuantScheme) -> nn.Module:
    """QuantReLU where the point follows a ReLU6: its scale learns where to clip."""
    bits = scheme.activation_bits(point.role)
    if bits == FLOAT_BITS:
        return nn.Identity()
    layer = QuantReLU if point.limit is not None else QuantIdentity
    quant = Int8ActPerTensorFloat if point.signed else Uint8ActPerTensorFloat
    return layer(act_quant=quant, bit_width=bits, collect_stats_steps=1)
