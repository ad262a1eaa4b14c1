"""The operators of a graph: what each computes, and the shape of what comes out.

The names are ours and keep their meaning; torch's own operators change from version to version. An operator is here
when networks that classify images use it. Shapes are those for one image: (1, C, H, W), (1, C) or, where a network
moves its axes, any other order.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import ConfigError
from trainables.graph.graph import IMAGE, Graph, Node

Shape = tuple[int, ...]
MAX_ELEMENTS = 1 << 28
"""Elements of all tensors of one image together: far above any classifier, so that no file asks for more memory."""
PAD_MODES = ("constant", "reflect", "replicate")
"""What images are padded with: a value, their own pixels mirrored, or the outermost pixel."""
MAX_SIZE = 1 << 20
"""The longest axis of a weight: every channel gets a label, and ImageNet-21k has 21,841 classes."""


@dataclass(frozen=True)
class Operator:
    """An operator: `run` computes it, `shape` says what comes out for one image.

    `module` builds what holds its parameters, from the attributes; `run` is then not used.
    """

    shape: Callable[..., Shape]
    run: Callable[..., Tensor] | None = None
    module: Callable[..., nn.Module] | None = None
    pointwise: bool = False
    """Whether each element of the output depends on the same place of the inputs alone."""


OPERATORS: dict[str, Operator] = {}


def shapes(graph: Graph) -> dict[str, Shape]:
    """Returns the shape of every node and of the image, for one image.

    Raises:
        ConfigError: an operator is unknown, has other attributes or inputs, or a tensor would be too large.
    """
    found: dict[str, Shape] = {IMAGE: (1, *graph.image)}
    elements = math.prod(graph.image)
    for node in graph.nodes:
        operator = OPERATORS.get(node.operator)
        if operator is None:
            raise ConfigError(f"graph: {node.name} has the unknown operator {node.operator!r}.")
        try:
            shape = tuple(operator.shape(*(found[name] for name in node.inputs), **node.attributes))
        except (TypeError, ValueError, IndexError, ArithmeticError, KeyError, AttributeError) as err:
            raise ConfigError(f"graph: {node.operator} {node.name} does not fit its inputs: {err}.") from err
        legal = all(type(size) is int and size > 0 for size in shape)
        elements += math.prod(shape) if legal else 0
        if not legal or elements > MAX_ELEMENTS or max(node.attributes.get("weight", ()), default=0) > MAX_SIZE:
            raise ConfigError(f"graph: {node.operator} {node.name} would have shape {shape}.")
        found[node.name] = shape
    return found


def _window(size: int, kernel: int, stride: int, before: int, dilation: int = 1, *, ceil: bool = False) -> int:
    span = size + 2 * before - dilation * (kernel - 1) - 1
    out = (-(-span // stride) if ceil else span // stride) + 1
    # A last window that would begin behind the image and its left padding does not count.
    return out - 1 if ceil and (out - 1) * stride >= size + before else out


def _conv_shape(
    x: Shape, *, weight: Shape, bias: bool, stride: Shape, padding: Shape, dilation: Shape, groups: int
) -> Shape:
    batch, channels, *sizes = x
    outputs, inputs, *kernel = weight
    if inputs * groups != channels or outputs % groups or len(sizes) != 2 or min(*stride, *dilation, *kernel) < 1:
        raise ValueError(f"weight {weight} in {groups} groups reads {inputs * groups} channels, not {channels}")
    return (
        batch,
        outputs,
        *(_window(s, k, t, p, d) for s, k, t, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)),
    )


def _conv(*, weight: Shape, bias: bool, stride: Shape, padding: Shape, dilation: Shape, groups: int) -> nn.Module:
    return nn.Conv2d(weight[1] * groups, weight[0], weight[2:], stride, padding, dilation, groups, bias)  # type: ignore[arg-type]


def _linear_shape(x: Shape, *, weight: Shape, bias: bool) -> Shape:
    if x[-1] != weight[1]:
        raise ValueError(f"weight {weight} reads {weight[1]} values, not {x[-1]}")
    return *x[:-1], weight[0]


def _norm_shape(x: Shape, *, channels: int, **_: Any) -> Shape:
    if x[1] != channels:
        raise ValueError(f"it has {channels} channels, not {x[1]}")
    return x


def _batch_norm(*, channels: int, eps: float, momentum: float | None, dims: int) -> nn.Module:
    return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm1d)(channels, eps, momentum)


def _layer_norm_shape(x: Shape, *, shape: Shape, eps: float, affine: bool, bias: bool) -> Shape:
    if x[-len(shape) :] != tuple(shape):
        raise ValueError(f"it normalizes {shape}")
    return x


def _pool_shape(
    x: Shape, *, kernel: Shape, stride: Shape, padding: Shape, ceil: bool = False, dilation: Shape = (1, 1), **_: Any
) -> Shape:
    rest, sizes = x[:-2], x[-2:]
    return *rest, *(
        _window(s, k, t, p, d, ceil=ceil)
        for s, k, t, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )


def _same(x: Shape, **_: Any) -> Shape:
    return x


def _broadcast(*parts: Shape, **_: Any) -> Shape:
    return tuple(torch.broadcast_shapes(*parts))


def _reduced(x: Shape, *, dims: Shape, keep: bool) -> Shape:
    gone = {d % len(x) for d in dims}
    return tuple(1 if d in gone else s for d, s in enumerate(x) if keep or d not in gone) or (1,)


def _reshaped(x: Shape, *, shape: Shape) -> Shape:
    count = math.prod(x)
    if -1 in shape:
        rest = -math.prod(shape)
        shape = tuple(count // rest if s == -1 else s for s in shape)
    if math.prod(shape) != count:
        raise ValueError(f"{x} cannot become {shape}")
    return shape


def _expanded(x: Shape, shape: Shape) -> Shape:
    return tuple(torch.broadcast_shapes(x, tuple(1 if size == -1 else size for size in shape)))


def _permuted(x: Shape, *, order: Shape) -> Shape:
    if sorted(order) != list(range(len(x))):
        raise ValueError(f"{order} is no order of {len(x)} axes")
    return tuple(x[d] for d in order)


def _sliced(x: Shape, *, dim: int, start: int, end: int, step: int = 1) -> Shape:
    return tuple(len(range(start, end, step)) if d == dim else s for d, s in enumerate(x)) if end <= x[dim] else ()


def _concatenated(*parts: Shape, dim: int) -> Shape:
    rest = {p[:dim] + p[dim + 1 :] for p in parts}
    if len(rest) != 1:
        raise ValueError(f"{parts} differ beside axis {dim}")
    return *parts[0][:dim], sum(p[dim] for p in parts), *parts[0][dim + 1 :]


def _padded(x: Shape, *, before: Shape, after: Shape, value: float, mode: str = "constant") -> Shape:
    wide = any(max(b, a) >= s for b, s, a in zip(before, x, after, strict=True))
    if mode not in PAD_MODES or (mode == "reflect" and wide):
        raise ValueError(f"{x} cannot be padded by {before} and {after} with {mode} values")
    return tuple(b + s + a for b, s, a in zip(before, x, after, strict=True))


def _matmul_shape(x: Shape, y: Shape) -> Shape:
    if x[-1] != y[-2]:
        raise ValueError(f"{x} and {y} do not meet")
    return *torch.broadcast_shapes(x[:-2], y[:-2]), x[-2], y[-1]


def _pad(x: Tensor, *, before: Shape, after: Shape, value: float, mode: str = "constant") -> Tensor:
    ends = [end for pair in reversed(list(zip(before, after, strict=True))) for end in pair]
    while len(ends) > 2 and ends[-2:] == [0, 0]:
        ends = ends[:-2]
    return F.pad(x, ends, value=value) if mode == "constant" else F.pad(x, ends, mode)


def _slice(x: Tensor, *, dim: int, start: int, end: int, step: int = 1) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, end, step),)]


def _resized(x: Shape, *, size: Shape, **_: Any) -> Shape:
    if len(x) != 4 or len(size) != 2:
        raise ValueError(f"{x} is no map of {size} pixels")
    return *x[:-2], *size


class Leaf(nn.Module):
    """A parameter that the network reads as it is, such as a class token, the scale of a block, or a fixed table."""

    def __init__(self, *, shape: Shape, learned: bool = True) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape), requires_grad=learned)

    def forward(self) -> Tensor:
        return self.value


def _unary(function: Callable[..., Tensor]) -> Operator:
    return Operator(_same, function, pointwise=True)


def _binary(function: Callable[..., Tensor]) -> Operator:
    return Operator(_broadcast, function, pointwise=True)


DROPOUTS = ("dropout", "channel_dropout")
"""The operators that act in training alone."""
OPERATORS |= {
    "conv2d": Operator(_conv_shape, module=_conv),
    "linear": Operator(_linear_shape, module=lambda *, weight, bias: nn.Linear(weight[1], weight[0], bias)),
    "batch_norm": Operator(_norm_shape, module=_batch_norm),
    "group_norm": Operator(_norm_shape, module=lambda *, channels, groups, eps: nn.GroupNorm(groups, channels, eps)),
    "layer_norm": Operator(
        _layer_norm_shape, module=lambda *, shape, eps, affine, bias: nn.LayerNorm(shape, eps, affine, bias)
    ),
    "parameter": Operator(lambda *, shape, learned=True: shape, module=Leaf),
    "dropout": Operator(_same, module=lambda *, p: nn.Dropout(p), pointwise=True),
    "channel_dropout": Operator(_same, module=lambda *, p: nn.Dropout2d(p), pointwise=True),
    "relu": _unary(F.relu),
    "clip": _unary(lambda x, *, low, high: torch.clamp(x, low, high)),
    "leaky_relu": _unary(lambda x, *, slope: F.leaky_relu(x, slope)),
    "elu": _unary(lambda x, *, alpha: F.elu(x, alpha)),
    "hardswish": _unary(F.hardswish),
    "hardsigmoid": _unary(F.hardsigmoid),
    "sigmoid": _unary(torch.sigmoid),
    "tanh": _unary(torch.tanh),
    "silu": _unary(F.silu),
    "mish": _unary(F.mish),
    "softplus": _unary(F.softplus),
    "gelu": _unary(lambda x, *, approximate: F.gelu(x, approximate=approximate)),
    "exp": _unary(torch.exp),
    "sqrt": _unary(torch.sqrt),
    "rsqrt": _unary(torch.rsqrt),
    "abs": _unary(torch.abs),
    "power": _unary(lambda x, *, exponent: torch.pow(x, exponent)),
    "scale": _unary(lambda x, *, factor, offset: x * factor + offset if factor != 1 else x + offset),
    "add": _binary(torch.add),
    "subtract": _binary(torch.sub),
    "multiply": _binary(torch.mul),
    "divide": _binary(torch.div),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "max_pool": Operator(
        _pool_shape,
        lambda x, *, kernel, stride, padding, dilation, ceil: F.max_pool2d(x, kernel, stride, padding, dilation, ceil),
    ),
    "mean_pool": Operator(
        _pool_shape,
        lambda x, *, kernel, stride, padding, ceil, padding_counts: F.avg_pool2d(
            x, kernel, stride, padding, ceil, padding_counts
        ),
    ),
    "resize_nearest": Operator(_resized, lambda x, *, size: F.interpolate(x, size, mode="nearest")),
    "resize": Operator(
        _resized,
        lambda x, *, size, mode, corners: F.interpolate(x, size, mode=mode, align_corners=corners),
    ),
    "adaptive_mean": Operator(lambda x, *, size: (*x[:-2], *size), lambda x, *, size: F.adaptive_avg_pool2d(x, size)),
    "mean": Operator(_reduced, lambda x, *, dims, keep: torch.mean(x, dims, keep)),
    "sum": Operator(_reduced, lambda x, *, dims, keep: torch.sum(x, dims, keep)),
    "max": Operator(_reduced, lambda x, *, dims, keep: torch.amax(x, dims, keep)),
    "norm": Operator(_reduced, lambda x, *, dims, keep: torch.linalg.vector_norm(x, 2, dims, keep)),
    "variance": Operator(
        lambda x, *, dims, keep, correction: _reduced(x, dims=dims, keep=keep),
        lambda x, *, dims, keep, correction: torch.var(x, dims, correction=correction, keepdim=keep),
    ),
    "softmax": Operator(_same, lambda x, *, dim: torch.softmax(x, dim)),
    "reshape": Operator(_reshaped, lambda x, *, shape: x.reshape(shape)),
    "permute": Operator(_permuted, lambda x, *, order: x.permute(order)),
    "slice": Operator(_sliced, _slice),
    "concatenate": Operator(_concatenated, lambda *parts, dim: torch.cat(_whole_batch(parts), dim)),
    "pad": Operator(_padded, _pad),
    "roll": Operator(lambda x, *, shifts, dims: x, lambda x, *, shifts, dims: torch.roll(x, shifts, dims)),
    "expand": Operator(lambda x, *, shape: _expanded(x, shape), lambda x, *, shape: x.expand(shape)),
    "matmul": Operator(_matmul_shape, torch.matmul),
    "attention": Operator(
        lambda q, k, v, *mask, scale, causal: (*q[:-1], v[-1]),
        lambda q, k, v, *mask, scale, causal: F.scaled_dot_product_attention(
            q, k, v, mask[0] if mask else None, scale=scale, is_causal=causal
        ),
    ),
}


def _whole_batch(parts: tuple[Tensor, ...]) -> list[Tensor]:
    """Gives parameters, whose batch is 1, the batch of the others."""
    batch = max(len(part) for part in parts)
    return [part if len(part) == batch else part.expand(batch, *part.shape[1:]) for part in parts]


def parameter_shapes(node: Node) -> Mapping[str, Shape]:
    """Returns the shapes of a node's tensors by name; none for an operator without any."""
    module = OPERATORS[node.operator].module
    if module is None:
        return {}
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in module(**node.attributes).state_dict().items()}
