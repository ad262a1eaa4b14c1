"""How torch's layers are translated: those with weights, norms, attention, and products of matrices."""

from typing import Any

import torch
from torch import Tensor, nn

from trainables.graph.graph import IMAGE
from trainables.graph.translator import Call, Translator, handles, pair

MASKED = -3e4
"""What is added to a score that attention must not see: its softmax is 0 then, and float16 holds it."""


@handles("conv2d", "convolution")
def _conv2d(t: Translator, call: Call) -> str:
    weight, bias = call["weight"], call["bias"]
    if not isinstance(weight, Tensor) or weight.ndim != 4 or call.arguments.get("transposed"):
        raise t.refusal("a convolution with a computed weight, in other than two dimensions, or transposed")
    pairs = {part: pair(call[part]) for part in ("stride", "dilation")}
    x, padding = call["input"], call["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(pairs["dilation"], weight.shape[2:], strict=True)]
        padding = [0, 0] if padding == "valid" else total
        if any(p % 2 for p in padding):
            before, after = (0, 0, *(p // 2 for p in padding)), (0, 0, *(p - p // 2 for p in padding))
            x, padding = t.add("pad", (t.tensor(x),), before=before, after=after, value=0.0), [0, 0]
        else:
            padding = [p // 2 for p in padding]
    if x == IMAGE and tuple(weight.shape[2:]) == (1, 1) and max(pairs["stride"]) > 1 and not any(padding):
        # Single pixels with gaps between them, over few channels: torch's own backward of such a layer writes past its
        # memory (2.15, channels last). The same pixels without the gaps are a layer like any other.
        for dim, step in zip((2, 3), pairs["stride"], strict=True):
            x = t.add("slice", (x,), dim=dim, start=0, end=call.input_shape[dim], step=step)
        pairs["stride"] = (1, 1)
    sizes = {"weight": tuple(weight.shape), "bias": bias is not None, "groups": int(call["groups"]), **pairs}
    return t.layer("conv2d", x, {"weight": weight, "bias": bias}, padding=pair(padding), **sizes)


@handles("conv1d")
def _conv1d(t: Translator, call: Call) -> str:
    """A convolution along one axis is one of maps with one row."""
    weight, (_, channels, size) = call["weight"], call.input_shape
    if not isinstance(weight, Tensor) or isinstance(call["padding"], str):
        raise t.refusal("conv1d with a computed weight, or with padding by name")
    x = t.add("reshape", (call["input"],), shape=(-1, channels, 1, size))
    flat = weight.unsqueeze(2)
    pairs = {part: (one, int(call[part][0])) for part, one in (("stride", 1), ("padding", 0), ("dilation", 1))}
    sizes = {"weight": tuple(flat.shape), "bias": call["bias"] is not None, "groups": int(call["groups"]), **pairs}
    y = t.layer("conv2d", x, {"weight": flat, "bias": call["bias"]}, weight, **sizes)
    return t.add("reshape", (y,), shape=call.shape)


@handles("linear")
def _linear(t: Translator, call: Call) -> str:
    weight, bias = call["weight"], call["bias"]
    if not isinstance(weight, Tensor):
        raise t.refusal("linear with a computed weight")
    tensors = {"weight": weight, "bias": bias}
    return t.layer("linear", call["input"], tensors, weight=tuple(weight.shape), bias=bias is not None)


@handles("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def _batch_norm(t: Translator, call: Call) -> Any:
    mean, variance = call["running_mean"], call["running_var"]
    if mean is None or variance is None:
        raise t.refusal("batch norm without running statistics")
    channels = len(mean)
    weight = torch.ones(channels) if call["weight"] is None else call["weight"]
    bias = torch.zeros(channels) if call["bias"] is None else call["bias"]
    tensors = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    tensors["num_batches_tracked"] = torch.tensor(0)
    momentum: float | None = float(call.arguments.get("momentum", 0.1))
    norm = t.module.get_submodule(t.origin.get(id(mean), "").rpartition(".")[0])
    if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.momentum is None:
        momentum = None  # a cumulative average, which evaluation mode leaves no trace of: it goes on from its count
        tensors["num_batches_tracked"] = norm.num_batches_tracked
    given = {"eps": float(call["eps"]), "momentum": momentum, "dims": 2 if call.rank == 4 else 1}
    return t.value_or_parts(t.layer("batch_norm", call["input"], tensors, mean, channels=channels, **given))


@handles("group_norm")
def _group_norm(t: Translator, call: Call) -> str:
    channels = call.shape[1]
    weight = torch.ones(channels) if call["weight"] is None else call["weight"]
    bias = torch.zeros(channels) if call["bias"] is None else call["bias"]
    tensors = {"weight": weight, "bias": bias}
    return t.layer(
        "group_norm", call["input"], tensors, channels=channels, groups=int(call["num_groups"]), eps=float(call["eps"])
    )


@handles("layer_norm")
def _layer_norm(t: Translator, call: Call) -> str:
    tensors = {"weight": call["weight"], "bias": call["bias"]}
    given = {"affine": call["weight"] is not None, "bias": call["bias"] is not None}
    shape = tuple(call["normalized_shape"])
    return t.layer("layer_norm", call["input"], tensors, shape=shape, eps=float(call["eps"]), **given)


@handles("mark_dropout")
def _dropout(t: Translator, call: Call) -> str:
    return t.add("channel_dropout" if call["channels"] else "dropout", (call["x"],), p=float(call["p"]))


@handles("matmul", "bmm")
def _matmul(t: Translator, call: Call) -> str:
    one, other = call.arguments.values()
    return t.add("matmul", (t.tensor(one), t.tensor(other)))


@handles("addmm")
def _addmm(t: Translator, call: Call) -> str:
    weight, bias = call["mat2"], call["self"]
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or call["beta"] != 1 or call["alpha"] != 1:
        raise t.refusal("addmm with computed weights")
    tensors = {"weight": weight.t(), "bias": bias}
    return t.layer("linear", call["mat1"], tensors, bias, weight=tuple(weight.t().shape), bias=True)


def _finite_mask(mask: Tensor | str) -> Tensor | str:
    """Returns a mask as finite numbers that are added, since a packed file holds no infinite ones."""
    if not isinstance(mask, Tensor) or (mask.is_floating_point() and bool(torch.isfinite(mask).all())):
        return mask
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).masked_fill(~mask, MASKED)
    return mask.clamp_min(MASKED)


@handles("scaled_dot_product_attention")
def _attention(t: Translator, call: Call) -> str:
    if call["dropout_p"] or call["enable_gqa"]:
        raise t.refusal("attention with dropout or grouped queries")
    inputs = [t.tensor(call[part]) for part in ("query", "key", "value")]
    if call["attn_mask"] is not None:
        inputs.append(t.tensor(_finite_mask(call["attn_mask"])))
    scale = None if call["scale"] is None else float(call["scale"])
    return t.add("attention", inputs, scale=scale, causal=bool(call["is_causal"]))
