"""Weights in an ONNX graph: narrow integer codes, and how a layer reads them.

A layer that reads uint8 codes is written for integer kernels where these compute the same function, which takes
biases that an int32 accumulator holds exactly (`trainables.quant.integer_bias`). Any other layer is written so
that it is computed in float32: biases rounded by the runtime changed 0.3 to 3 % of the predictions of small networks.
"""

from dataclasses import dataclass

import numpy as np
import torch

from trainables.config import FLOAT_BITS
from trainables.export.onnx.activations import Value, as_float, dequantized
from trainables.export.onnx.nodes import FLOAT, INT8, INT32, Nodes
from trainables.export.packed import PackedModel
from trainables.models.model import Model
from trainables.models.units import Unit, norm_of, units
from trainables.quant.integer_bias import MAX_BIAS, MAX_BITS, code_gain


@dataclass(frozen=True)
class LayerWeights:
    """A layer whose weight of output channel c is values[c] · scale[c].

    `values` are integers of `bits`, in the shape of the weight, or float32 when bits are 32; `scale` (may be
    negative or 0) and `bias` are (outputs,) float32.
    """

    values: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    bits: int


def packed_weights(packed: PackedModel, network: Model) -> dict[str, LayerWeights]:
    """Returns the layers of a packed file by the name of their unit; biases are those of the decoded network."""
    found = {}
    for i, (layer, unit) in enumerate(zip(packed.layers, units(network).values(), strict=True)):
        bias = unit.layer.bias
        assert bias is not None, "a folded unit has a bias"
        found[layer.name] = LayerWeights(packed.codes[i], packed.scales(i)[0], bias.detach().numpy(), layer.bits)
    return found


def float_weights(unit: Unit) -> LayerWeights:
    """Returns a float layer with its batch norm folded into weight and bias."""
    weight = unit.layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if unit.layer.bias is None else unit.layer.bias.detach()
    gain = torch.ones_like(bias)
    norm = norm_of(unit)
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        bias = norm.bias.detach() + gain * (bias - norm.running_mean)
    return LayerWeights(weight.numpy(), gain.numpy(), bias.numpy(), FLOAT_BITS)


@dataclass(frozen=True)
class IntegerForm:
    """A weight as integer kernels multiply it: codes · `gain` of at most 8 bits, with positive scales (outputs,)."""

    codes: np.ndarray
    gain: int
    scale: np.ndarray


def layer_inputs(nodes: Nodes, name: str, x: Value, weights: LayerWeights) -> tuple[str, str, str]:
    """Returns input, weight and bias of a layer, as float32 tensors of the graph."""
    bias = nodes.constant(f"{name}.bias", weights.bias)
    form = integer_form(weights, x)
    if form is None:
        return as_float(nodes, x), _float_weight(nodes, name, weights), bias
    return dequantized(nodes, x), _integer_weight(nodes, name, form, weights.bits), bias


def integer_form(weights: LayerWeights, x: Value) -> IntegerForm | None:
    """Returns the form for an integer kernel; None where it would compute another function.

    The sign of a scale goes into the codes, whose range is symmetric. A channel of zeros gets a scale in which
    its bias is a whole number.
    """
    if x.grid is None or not x.is_uint8 or weights.bits > MAX_BITS:
        return None
    gain, step, bias = code_gain(weights.bits), x.grid.step, np.abs(weights.bias)
    codes = weights.values * _per_channel(np.sign(weights.scale).astype(np.int8), weights.values)
    empty = ~codes.reshape(len(codes), -1).any(axis=1)
    of_zeros = np.where(bias > 1e-20, bias / step / 2**20, 1)
    scale = np.where(empty, of_zeros, np.abs(weights.scale) / gain).astype(np.float32)
    unit = np.maximum(np.float64(step) * scale, 1e-300)
    in_units = bias / unit
    rounding = 1e-3 + in_units * 2.0**-22  # of the bias as a float32 number
    whole = (np.abs(in_units - np.rint(in_units)) <= rounding) & (in_units < MAX_BIAS)
    return IntegerForm(codes, gain, scale) if whole.all() else None


def _integer_weight(nodes: Nodes, name: str, form: IntegerForm, bits: int) -> str:
    """Adds a weight behind DequantizeLinear; runtimes evaluate what lies before it once."""
    if bits > 4:
        wide = nodes.codes(f"{name}.weight", form.codes * np.int8(form.gain), 8)
    else:
        stored = nodes.codes(f"{name}.weight", form.codes, bits)
        gain = nodes.constant(f"int32.{form.gain}", np.int32(form.gain))
        int32 = nodes.add("Cast", stored, name=f"{name}.w32", to=INT32)
        product = nodes.add("Mul", int32, gain, name=f"{name}.w32x")
        wide = nodes.add("Cast", product, name=f"{name}.w8", to=INT8)
    parameters = [nodes.constant(f"{name}.scale", form.scale)]
    # onnxruntime needs zero points for integer kernels of linear layers, and to make uint8 of what saturates.
    if bits == 8 or form.codes.ndim == 2:
        parameters.append(nodes.constant(f"{name}.zeros", np.zeros(len(form.scale), np.int8)))
    return nodes.add("DequantizeLinear", wide, *parameters, name=f"{name}.w", axis=0)


def _float_weight(nodes: Nodes, name: str, weights: LayerWeights) -> str:
    """Adds a float32 weight; runtimes evaluate the arithmetic on constants once."""
    scale = _per_channel(weights.scale, weights.values)
    if weights.bits == FLOAT_BITS:
        return nodes.constant(f"{name}.weight", weights.values * scale)
    stored = nodes.codes(f"{name}.weight", weights.values, weights.bits)
    values = nodes.add("Cast", stored, name=f"{name}.cast_w", to=FLOAT)
    return nodes.add("Mul", values, nodes.constant(f"{name}.scale", scale), name=f"{name}.w")


def _per_channel(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Shapes values so that they meet a weight by channel: (outputs,) → (outputs, 1, …)."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))
