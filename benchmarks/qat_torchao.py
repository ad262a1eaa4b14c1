"""The network exported and prepared by torchao's prepare_qat_pt2e, with fake quantizers at the same points.

Fake quantizers are those of its XNNPACK configuration for QAT: FusedMovingAvgObsFakeQuantize, symmetric per channel
for weights and affine per tensor for activations. prepare_qat_pt2e also makes each convolution compute as if batch
norm were folded into its weight; there is no option against it.
"""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    disable_observer,
    move_exported_model_to_train,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from trainables.config import QuantScheme
from trainables.models.model import Model
from trainables.models.quantizer import code_range

ATEN = torch.ops.aten
EPSILON = 2**-12


def quantized(net: Model, scheme: QuantScheme, batch: Tensor) -> nn.Module:
    """A graph module with the weights of a float network; its observers follow every batch."""
    exported = torch.export.export(net, (batch,)).module()
    prepared = prepare_qat_pt2e(exported, SamePoints(scheme))
    move_exported_model_to_train(prepared)
    return prepared


def without_observers(net: nn.Module, batch: Tensor) -> nn.Module:
    """The scales stay those of one batch, as in the later epochs of torchao's recipe."""
    with torch.no_grad():
        net(batch)
    return net.apply(disable_observer)


class SamePoints(Quantizer):
    """Quantizes what this project quantizes: weights, clipped activations, sums, linear outputs, the last input."""

    def __init__(self, scheme: QuantScheme) -> None:
        super().__init__()
        self._scheme = scheme

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            # prepare_qat_pt2e takes the second entry for the weight.
            weights = {node.args[0]: None, node.args[1]: _weights(self._bits(node))} if _has_weight(node) else {}
            output = _activations(self._scheme.a_bits) if _is_point(node) else None
            if weights or output:
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map=weights, output_qspec=output, _annotated=True
                )
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing that it annotates needs a backend."""

    def _bits(self, node: Node) -> int:
        edge = node.target is ATEN.linear.default or node.args[0].op == "placeholder"
        return self._scheme.edge_bits if edge else self._scheme.w_bits


def _has_weight(node: Node) -> bool:
    return node.target in (ATEN.conv2d.default, ATEN.linear.default)


def _is_point(node: Node) -> bool:
    """A batch norm is one where a convolution takes its output as it is."""
    if node.target is ATEN.batch_norm.default:
        return any(user.target is ATEN.conv2d.default for user in node.users)
    return node.target in (ATEN.hardtanh.default, ATEN.add.Tensor, ATEN.mean.dim)


def _weights(bits: int) -> QuantizationSpec:
    low, high = code_range(bits, signed=True)
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-low,
        quant_max=high,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, eps=EPSILON
        ),
    )


def _activations(bits: int) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-(2 ** (bits - 1)),
        quant_max=2 ** (bits - 1) - 1,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, eps=EPSILON
        ),
    )
