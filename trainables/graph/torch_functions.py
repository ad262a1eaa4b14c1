"""How torch's functions of values are translated: element by element, and over some of a tensor's axes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainables.graph.translator import HANDLERS, Call, Handler, Translator, handles, pair


@handles(
    "contiguous", "clone", "alias", "detach", "detach_", "lift_fresh", "lift_fresh_copy", "to", "_to_copy", "type_as"
)
def _as_it_is(t: Translator, call: Call) -> Any:
    if call.node.meta["val"].dtype != torch.float32:
        raise t.refusal(f"a conversion to {call.node.meta['val'].dtype}")
    return next(iter(call.arguments.values()))


PLAIN = {
    name: name
    for name in ("relu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "mish", "exp", "sqrt", "rsqrt", "abs")
}
"""Functions of one tensor that have the same name here."""


def _plain(operator: str) -> Handler:
    return lambda t, call: t.add(operator, (t.tensor(next(iter(call.arguments.values()))),))


HANDLERS |= {name: _plain(operator) for name, operator in PLAIN.items()}
HANDLERS |= {f"{name}_": _plain(operator) for name, operator in PLAIN.items()}


@handles("relu6", "relu6_")
def _relu6(t: Translator, call: Call) -> str:
    return t.add("clip", (call["self"],), low=0.0, high=6.0)


@handles("hardtanh", "hardtanh_")
def _hardtanh(t: Translator, call: Call) -> str:
    return _between(t, call["self"], call["min_val"], call["max_val"])


@handles("clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "clip")
def _clamp(t: Translator, call: Call) -> str:
    low, high = call.arguments.get("min"), call.arguments.get("max")
    if isinstance(low, Tensor | str) or isinstance(high, Tensor | str):
        raise t.refusal("clamp between tensors")
    return _between(t, call["self"], low, high)


def _between(t: Translator, x: str, low: float | None, high: float | None) -> str:
    """Adds what keeps values between two ends, of which either may be missing or infinite."""
    ends = [None if end is None or math.isinf(end) else float(end) for end in (low, high)]
    if ends == [None, None]:
        return x
    return t.add("relu", (x,)) if ends == [0.0, None] else t.add("clip", (x,), low=ends[0], high=ends[1])


@handles("leaky_relu", "leaky_relu_")
def _leaky_relu(t: Translator, call: Call) -> str:
    return t.add("leaky_relu", (call["self"],), slope=float(call["negative_slope"]))


@handles("elu", "elu_")
def _elu(t: Translator, call: Call) -> str:
    if call["scale"] != 1 or call["input_scale"] != 1:
        raise t.refusal("elu with a scale")
    return t.add("elu", (call["self"],), alpha=float(call["alpha"]))


@handles("gelu", "gelu_")
def _gelu(t: Translator, call: Call) -> str:
    return t.add("gelu", (call["self"],), approximate=str(call["approximate"]))


@handles("softplus")
def _softplus(t: Translator, call: Call) -> str:
    if call["beta"] != 1:
        raise t.refusal("softplus with a beta")
    return t.add("softplus", (call["self"],))


@handles("copy")
def _copy(t: Translator, call: Call) -> str:
    """A tensor that takes the values of another one, in its own shape."""
    return t.add("expand", (t.tensor(call["src"]),), shape=call.shape)


@handles("pow", "square")
def _power(t: Translator, call: Call) -> str:
    exponent = call.arguments.get("exponent", 2)
    if not isinstance(exponent, int | float):
        raise t.refusal("a power with a computed exponent")
    return t.add("power", (call["self"],), exponent=float(exponent))


@handles("neg")
def _negative(t: Translator, call: Call) -> str:
    return t.add("scale", (call["self"],), factor=-1.0, offset=0.0)


@handles("reciprocal")
def _reciprocal(t: Translator, call: Call) -> str:
    return t.add("power", (call["self"],), exponent=-1.0)


def _arithmetic(operator: str, factor: Callable[[float], float], offset: Callable[[float], float]) -> Handler:
    """Returns the handler of an operator on two tensors, or on a tensor and a number."""

    def handle(t: Translator, call: Call) -> str:
        one, other, alpha = call["self"], call["other"], call.arguments.get("alpha", 1)
        if call.arguments.get("rounding_mode") is not None:
            raise t.refusal("a division that rounds")
        if isinstance(other, Tensor) and other.numel() == 1 and id(other) not in t.origin:
            other = other.item()
        if isinstance(one, Tensor) and one.numel() == 1 and id(one) not in t.origin and operator in ("add", "multiply"):
            one, other = other, one.item()
        if isinstance(other, int | float):
            return t.add("scale", (t.tensor(one),), factor=factor(float(other)), offset=offset(float(other) * alpha))
        if isinstance(one, int | float):
            raise t.refusal(f"{operator} of a number and a tensor")
        if alpha != 1:
            other = t.add("scale", (t.tensor(other),), factor=float(alpha), offset=0.0)
        return t.add(operator, (t.tensor(one), t.tensor(other)))

    return handle


_ADD = _arithmetic("add", lambda n: 1.0, lambda n: n)
_SUBTRACT = _arithmetic("subtract", lambda n: 1.0, lambda n: -n)
_MULTIPLY = _arithmetic("multiply", lambda n: n, lambda n: 0.0)
_DIVIDE = _arithmetic("divide", lambda n: 1 / n, lambda n: 0.0)
for _name, _handler in (("add", _ADD), ("sub", _SUBTRACT), ("mul", _MULTIPLY), ("div", _DIVIDE)):
    HANDLERS |= {_name: _handler, f"{_name}_": _handler}
HANDLERS |= {"true_divide": _DIVIDE, "multiply": _MULTIPLY}


@handles("rsub")
def _reversed(t: Translator, call: Call) -> str:
    if not isinstance(call["other"], int | float) or call["alpha"] != 1:
        raise t.refusal("rsub of two tensors")
    return t.add("scale", (call["self"],), factor=-1.0, offset=float(call["other"]))


@handles("maximum", "minimum")
def _extreme(t: Translator, call: Call) -> str:
    return t.add(call.name, (t.tensor(call["self"]), t.tensor(call["other"])))


@handles("max_pool2d", "max_pool2d_with_indices")
def _max_pool(t: Translator, call: Call) -> Any:
    kernel = pair(call["kernel_size"])
    stride = pair(call["stride"]) if call["stride"] else kernel
    given = {"padding": pair(call["padding"]), "dilation": pair(call["dilation"]), "ceil": bool(call["ceil_mode"])}
    return t.value_or_parts(t.add("max_pool", (call["self"],), kernel=kernel, stride=stride, **given))


@handles("avg_pool2d")
def _mean_pool(t: Translator, call: Call) -> str:
    kernel = pair(call["kernel_size"])
    if call["divisor_override"] is not None:
        raise t.refusal("avg_pool2d with a divisor of its own")
    stride = pair(call["stride"]) if call["stride"] else kernel
    given = {"ceil": bool(call["ceil_mode"]), "padding_counts": bool(call["count_include_pad"])}
    return t.add("mean_pool", (call["self"],), kernel=kernel, stride=stride, padding=pair(call["padding"]), **given)


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_mean(t: Translator, call: Call) -> str:
    size, have = tuple(call["output_size"]), call.input_shape[-2:]
    if size == have:
        return str(call["self"])
    if size == (1, 1):
        return t.add("mean", (call["self"],), dims=(call.rank - 2, call.rank - 1), keep=True)
    if all(h % s == 0 for h, s in zip(have, size, strict=True)):
        kernel = tuple(h // s for h, s in zip(have, size, strict=True))
        same = {"padding": (0, 0), "ceil": False, "padding_counts": True}
        return t.add("mean_pool", (call["self"],), kernel=kernel, stride=kernel, **same)
    return t.add("adaptive_mean", (call["self"],), size=size)


@handles("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d")
def _resize(t: Translator, call: Call) -> str:
    size, have = call.shape[-2:], call.input_shape[-2:]
    factors = call.arguments.get("scale_factors")
    if factors and any(h * f != s for h, f, s in zip(have, factors, size, strict=True)):
        raise t.refusal("a resize by factors that give no whole number of pixels")
    x = call["input" if "input" in call.arguments else "self"]
    if call.name == "upsample_nearest2d":
        return t.add("resize_nearest", (x,), size=size)
    mode = call.name.removeprefix("upsample_").removesuffix("2d")
    return t.add("resize", (x,), size=size, mode=mode, corners=bool(call["align_corners"]))


@handles("adaptive_max_pool2d")
def _adaptive_max(t: Translator, call: Call) -> Any:
    if tuple(call["output_size"]) != (1, 1):
        raise t.refusal("adaptive_max_pool2d to more than one pixel")
    return t.value_or_parts(t.add("max", (call["self"],), dims=(call.rank - 2, call.rank - 1), keep=True))


@handles("mean", "sum", "amax")
def _reduction(t: Translator, call: Call) -> str:
    operator = "max" if call.name == "amax" else call.name
    keep = bool(call.arguments.get("keepdim", False))
    if "dim" not in call.arguments:
        raise t.refusal(f"{operator} over all axes, the batch too")
    return t.add(operator, (call["self"],), dims=call.dims(), keep=keep)


@handles("linalg_vector_norm")
def _norm(t: Translator, call: Call) -> str:
    if call["ord"] != 2:
        raise t.refusal("a norm that is not the Euclidean one")
    return t.add("norm", (call["self"],), dims=call.dims(), keep=bool(call["keepdim"]))


@handles("var")
def _variance(t: Translator, call: Call) -> str:
    correction = call.arguments.get("correction")
    correction = float(call.arguments.get("unbiased", True)) if correction is None else float(correction)
    return t.add("variance", (call["self"],), dims=call.dims(), keep=bool(call["keepdim"]), correction=correction)


@handles("softmax", "_softmax")
def _softmax(t: Translator, call: Call) -> str:
    return t.add("softmax", (call["self"],), dim=int(call["dim"]) % call.rank)
