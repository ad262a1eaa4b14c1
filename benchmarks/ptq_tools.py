"""Post-training quantization by each tool: a float module and calibration images in, a module that computes the same.

All get the same images and the same bits. Where a tool can, the first and the last layer keep 8 bits, as ours do.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

EDGE_BITS = 8
Batches = Sequence[Tensor]
Tool = Callable[[nn.Module, Batches, int, int], nn.Module]
"""A function of a module in eval mode, normalized calibration images in batches, and the bits of weights and
activations; it returns the quantized module."""


def nncf(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """`nncf.quantize` with its bias correction; all layers have the same bits."""
    import nncf as tool
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    advanced = AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(num_bits=w_bits),
        activations_quantization_params=QuantizationParameters(num_bits=a_bits),
    )
    quantized: nn.Module = tool.quantize(
        deepcopy(module),
        tool.Dataset(list(batches)),
        subset_size=len(batches),
        advanced_parameters=advanced,
    )
    return quantized


def pt2e(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """torchao's PT2E with the x86 quantizer, whose ranges are narrowed to these bits; all layers have the same."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(module, (batches[0],), dynamic_shapes=shapes).module()
    prepared = prepare_pt2e(exported, x86_quantizer(w_bits, a_bits))
    for batch in batches:
        prepared(batch)
    quantized: nn.Module = convert_pt2e(prepared)
    return quantized


def x86_quantizer(w_bits: int, a_bits: int, *, training: bool = False) -> Any:
    """Returns torchao's quantizer for x86 processors, with its ranges narrowed to these bits."""
    from torchao.quantization.pt2e.quantizer import QuantizationSpec
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    def narrowed(spec: QuantizationSpec, bits: int) -> QuantizationSpec:
        signed = spec.dtype == torch.int8
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return QuantizationSpec(
            dtype=spec.dtype,
            observer_or_fake_quant_ctr=spec.observer_or_fake_quant_ctr,
            quant_min=low,
            quant_max=high,
            qscheme=spec.qscheme,
            ch_axis=spec.ch_axis,
            is_dynamic=spec.is_dynamic,
        )

    default = x86.get_default_x86_inductor_quantization_config(is_qat=training)
    config = type(default)(
        narrowed(default.input_activation, a_bits),
        narrowed(default.output_activation, a_bits),
        narrowed(default.weight, w_bits),
        default.bias,
        default.is_qat,
    )
    return x86.X86InductorQuantizer().set_global(config)


def brevitas(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """Brevitas' own script for networks of images: steps by mean squared error, bias correction."""
    return _brevitas(module, batches, w_bits, a_bits, gptq=False)


def brevitas_gptq(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """The same with GPTQ, on quantized activations, inputs of the largest products first."""
    return _brevitas(module, batches, w_bits, a_bits, gptq=True)


def _brevitas(module: nn.Module, batches: Batches, w_bits: int, a_bits: int, *, gptq: bool) -> nn.Module:
    from brevitas.graph.quantize import preprocess_for_quantize
    from brevitas_examples.imagenet_classification.ptq import ptq_common as tool

    loader = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in batches]
    prepared = preprocess_for_quantize(deepcopy(module), equalize_iters=20)
    quantized = brevitas_layers(prepared, w_bits, a_bits, weight_param_method="mse")
    with torch.no_grad():
        quantized(batches[0])  # its weights' steps are found in the first pass
    tool.calibrate(loader, quantized)
    if gptq:
        with torch.no_grad():
            tool.apply_gptq(loader, quantized, act_order=True, use_quant_activations=True)
    tool.apply_bias_correction(loader, quantized)
    return quantized


def brevitas_layers(prepared: nn.Module, w_bits: int, a_bits: int, *, weight_param_method: str) -> nn.Module:
    """Returns Brevitas' layers in place of torch's, with these bits and a way to find the steps of weights."""
    from brevitas_examples.imagenet_classification.ptq import ptq_common as tool

    quantized: nn.Module = tool.quantize_model(
        prepared,
        backend="layerwise",
        weight_bit_width=w_bits,
        act_bit_width=a_bits,
        bias_bit_width=32,
        weight_quant_granularity="per_channel",
        act_quant_percentile=99.999,
        act_quant_type="sym",
        scale_factor_type="float_scale",
        quant_format="int",
        layerwise_first_last_bit_width=EDGE_BITS,
        weight_narrow_range=True,
        weight_param_method=weight_param_method,
        act_param_method="mse",
    )
    return quantized


def modelopt(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """ModelOpt's INT8 configuration with these bits: ranges of the largest values."""
    return _modelopt(module, batches, w_bits, a_bits, "max")


def modelopt_mse(module: nn.Module, batches: Batches, w_bits: int, a_bits: int) -> nn.Module:
    """The same with ranges by mean squared error."""
    return _modelopt(module, batches, w_bits, a_bits, "mse")


def _modelopt(module: nn.Module, batches: Batches, w_bits: int, a_bits: int, algorithm: str) -> nn.Module:
    import modelopt.torch.quantization as tool

    config = deepcopy(tool.INT8_DEFAULT_CFG)
    bits = {"*weight_quantizer": w_bits, "*input_quantizer": a_bits}
    for rule in config["quant_cfg"]:
        if rule["quantizer_name"] in bits:
            rule["cfg"]["num_bits"] = bits[rule["quantizer_name"]]
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for kind, axis in (("weight", 0), ("input", None)):
        config["quant_cfg"] += [
            {"quantizer_name": f"{layer}.{kind}_quantizer", "cfg": {"num_bits": EDGE_BITS, "axis": axis}}
            for layer in (layers[0], layers[-1])
        ]

    def calibrate(network: nn.Module) -> None:
        for batch in batches:
            network(batch)

    with torch.no_grad():
        quantized: nn.Module = tool.quantize(deepcopy(module), {**config, "algorithm": algorithm}, calibrate)
    return quantized


TOOLS: dict[str, Tool] = {
    "NNCF": nncf,
    "PT2E": pt2e,
    "Brevitas": brevitas,
    "Brevitas GPTQ": brevitas_gptq,
    "ModelOpt": modelopt,
    "ModelOpt MSE": modelopt_mse,
}
PACKAGES = {
    "NNCF": "nncf",
    "PT2E": "torchao",
    "Brevitas": "brevitas",
    "Brevitas GPTQ": "brevitas",
    "ModelOpt": "nvidia-modelopt",
    "ModelOpt MSE": "nvidia-modelopt",
}
