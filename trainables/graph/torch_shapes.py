"""How torch's functions that move values are translated: shapes, orders of axes, parts, and joined tensors."""

import torch

from trainables.graph.operators import PAD_MODES
from trainables.graph.translator import Call, Translator, handles

LARGEST = torch.finfo(torch.float32).max


@handles("view", "reshape", "_unsafe_view", "flatten", "unsqueeze", "squeeze", "unflatten", "view_as", "reshape_as")
def _reshape(t: Translator, call: Call) -> str:
    if call.shape.count(-1) > 1:
        raise t.refusal("a shape with more than one axis that depends on the batch")
    return t.add("reshape", (call["self"],), shape=call.shape)


@handles("permute", "transpose", "swapaxes", "t", "numpy_T")
def _permute(t: Translator, call: Call) -> str:
    name, rank = call.name, call.rank
    order = list(range(rank))
    if name == "permute":
        order = [d % rank for d in call["dims"]]
    else:
        one, other = (0, 1) if name in ("t", "numpy_T") else (v for k, v in list(call.arguments.items())[1:3])
        order[one % rank], order[other % rank] = order[other % rank], order[one % rank]
    return t.add("permute", (call["self"],), order=tuple(order))


@handles("select")
def _select(t: Translator, call: Call) -> str:
    dim, shape = int(call["dim"]) % call.rank, call.input_shape
    if shape[dim] == -1:
        raise t.refusal("one image out of the batch")
    start = int(call["index"]) % shape[dim]
    part = t.add("slice", (call["self"],), dim=dim, start=start, end=start + 1)
    return t.add("reshape", (part,), shape=call.shape)


@handles("slice")
def _slice(t: Translator, call: Call) -> str:
    dim, shape = int(call["dim"]) % call.rank, call.input_shape
    if shape[dim] == -1:
        if call["start"] in (0, None) and call["step"] == 1:
            return str(call["self"])
        raise t.refusal("a part of the batch")
    start, end, _ = slice(call["start"], call["end"]).indices(shape[dim])
    if (start, end, call["step"]) == (0, shape[dim], 1):
        return str(call["self"])
    more = {} if call["step"] == 1 else {"step": int(call["step"])}
    return t.add("slice", (call["self"],), dim=dim, start=start, end=end, **more)


@handles("chunk", "split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_chunk", "tensor_split")
def _parts(t: Translator, call: Call) -> list[str]:
    dim = int(call["dim"]) % call.rank
    found, start, single = [], 0, call.name == "unbind"
    for shape in call.shapes:
        size = 1 if single else shape[dim]
        part = t.add("slice", (call["self"],), dim=dim, start=start, end=start + size)
        found.append(t.add("reshape", (part,), shape=shape) if single else part)
        start += size
    return found


@handles("cat", "concat", "concatenate")
def _concatenate(t: Translator, call: Call) -> str:
    parts = [t.tensor(part) for part in call["tensors"]]
    return t.add("concatenate", parts, dim=int(call["dim"]) % len(call.shape))


@handles("stack")
def _stack(t: Translator, call: Call) -> str:
    dim = int(call["dim"]) % len(call.shape)
    shape = tuple(1 if d == dim else size for d, size in enumerate(call.shape))
    return t.add("concatenate", [t.add("reshape", (t.tensor(p),), shape=shape) for p in call["tensors"]], dim=dim)


@handles("constant_pad_nd", "pad")
def _pad(t: Translator, call: Call) -> str:
    mode = str(call.arguments.get("mode", "constant"))
    if mode not in PAD_MODES:
        raise t.refusal(f"padding of mode {mode}")
    ends, rank = list(call["pad"]), call.rank
    before, after = [0] * rank, [0] * rank
    for place in range(len(ends) // 2):
        before[rank - 1 - place], after[rank - 1 - place] = int(ends[2 * place]), int(ends[2 * place + 1])
    x = str(call["self"])
    crop = [(d, -min(0, b), -min(0, a)) for d, (b, a) in enumerate(zip(before, after, strict=True)) if min(a, b) < 0]
    for dim, first, last in crop:
        x = t.add("slice", (x,), dim=dim, start=first, end=call.input_shape[dim] - last)
    before, after = [max(0, b) for b in before], [max(0, a) for a in after]
    if not any(before) and not any(after):
        return x
    more = {} if mode == "constant" else {"mode": mode}
    # A pool of maxima is padded with -inf, which no file holds: below any other number it does the same.
    value = max(-LARGEST, min(LARGEST, float(call["value"] or 0.0)))
    return t.add("pad", (x,), before=tuple(before), after=tuple(after), value=value, **more)


@handles("slice_scatter")
def _slice_scatter(t: Translator, call: Call) -> str:
    """A tensor with one part replaced: what lies before the part, the part, and what lies behind it."""
    dim = int(call["dim"]) % call.rank
    size = call.shape[dim]
    if size == -1:
        if call["start"] in (0, None) and call["step"] == 1:
            return str(call["src"])
        raise t.refusal("a change of some images of a batch")
    start, end, _ = slice(call["start"], call["end"]).indices(size)
    if call["step"] != 1:
        raise t.refusal("a change of every other element")
    x = t.tensor(call["self"])
    ends = [(0, start), (end, size)]
    before, after = ([t.add("slice", (x,), dim=dim, start=a, end=b)] if b > a else [] for a, b in ends)
    return t.add("concatenate", [*before, t.tensor(call["src"]), *after], dim=dim)


@handles("roll")
def _roll(t: Translator, call: Call) -> str:
    if not call["dims"]:
        raise t.refusal("roll without axes")
    return t.add("roll", (call["self"],), shifts=tuple(call["shifts"]), dims=tuple(d % call.rank for d in call["dims"]))


@handles("expand", "expand_as", "broadcast_to")
def _expand(t: Translator, call: Call) -> str:
    return t.add("expand", (call["self"],), shape=call.shape)
