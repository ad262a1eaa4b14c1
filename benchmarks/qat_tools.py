"""Quantization-aware training and pruning by each tool: how it prepares a float module, and the file that it writes.

All get the same weights, images and bits. Where a tool can, the first and the last layer keep 8 bits, as ours do.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.ptq_tools import Batches, brevitas_layers, modelopt, nncf, x86_quantizer

Prepare = Callable[[nn.Module, Batches, int, int], nn.Module]
"""A function of a module in eval mode, normalized calibration images in batches, and the bits of weights and
activations; it returns a module that can be trained."""
Write = Callable[[nn.Module, Tensor, Path], None]
"""A function of the trained module, a batch of images and the file to write."""


@dataclass(frozen=True)
class Tool:
    """A tool for quantization-aware training."""

    package: str
    prepare: Prepare
    write: Write


def brevitas(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """Brevitas' layers in place of torch's; steps of weights from the largest of a channel, of activations learned."""
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize

    prepared = preprocess_for_quantize(deepcopy(module), equalize_iters=0, merge_bn=False)
    quantized = brevitas_layers(prepared, w_bits, a_bits, weight_param_method="stats")
    with torch.no_grad(), calibration_mode(quantized):
        for batch in batches:
            quantized(batch)
    return quantized


def _brevitas_onnx(network: nn.Module, batch: Tensor, place: Path) -> None:
    """ONNX with integer weights between quantize and dequantize."""
    from brevitas.export import export_onnx_qcdq

    export_onnx_qcdq(network.eval(), args=batch[:1], export_path=str(place), dynamo=False)


def pt2e(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """torchao's PT2E for x86 processors, its ranges narrowed to these bits; batch norm is folded while training."""
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(module, (batches[0],), dynamic_shapes=shapes).module()
    prepared: nn.Module = prepare_qat_pt2e(exported, x86_quantizer(w_bits, a_bits, training=True))
    allow_exported_model_train_eval(prepared)
    prepared.eval()
    with torch.no_grad():
        for batch in batches:
            prepared(batch)
    return prepared


def _pt2e_state(network: nn.Module, batch: Tensor, place: Path) -> None:
    """The tensors that the converted network reads, integer weights among them; its program would add 0.8 MB."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    network.eval()
    converted = convert_pt2e(deepcopy(network))
    read = {str(node.target) for node in converted.graph.nodes if node.op == "get_attr"}
    torch.save({name: tensor for name, tensor in converted.state_dict().items() if name in read}, place)


def _modelopt_file(network: nn.Module, batch: Tensor, place: Path) -> None:
    """ONNX by torch's exporter, with float weights before quantize and dequantize, or else ModelOpt's checkpoint."""
    import modelopt.torch.opt as tool

    try:
        torch.onnx.export(network.eval(), (batch[:1],), str(place), dynamo=False)
    except AssertionError:  # it exports 8 and 4 bits alone
        tool.save(network, str(place))


def _openvino(network: nn.Module, batch: Tensor, place: Path) -> None:
    """OpenVINO's two files, with integer weights, as one."""
    import openvino

    folder = place.with_suffix("")
    openvino.save_model(openvino.convert_model(network.eval(), example_input=batch), str(folder / "model.xml"))
    place.write_bytes(b"".join(file.read_bytes() for file in sorted(folder.iterdir())))


TOOLS = {
    "Brevitas": Tool("brevitas", brevitas, _brevitas_onnx),
    "PT2E": Tool("torchao", pt2e, _pt2e_state),
    "ModelOpt": Tool("nvidia-modelopt", modelopt, _modelopt_file),
    "NNCF": Tool("nncf", nncf, _openvino),
}


def torch_pruning(module: nn.Module, batches: Batches, removed: float) -> nn.Module:
    """Removes this share of the channels of all groups together by the sizes of their weights (Torch-Pruning)."""
    import torch_pruning as tp

    pruned = deepcopy(module)
    heads = [layer for layer in pruned.modules() if isinstance(layer, nn.Linear)]
    tp.pruner.BasePruner(
        pruned,
        batches[0][:1],
        tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=removed,
        global_pruning=True,
        ignored_layers=heads,
    ).step()
    return pruned


def state_file(network: nn.Module, batch: Tensor, place: Path) -> None:
    """The weights as torch saves them, in float32."""
    torch.save(network.state_dict(), place)
