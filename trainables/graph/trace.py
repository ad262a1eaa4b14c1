"""trace: the graph of a module made of torch's own layers, in milliseconds.

`capture` takes any module, but loads torch's compiler for it, which costs seconds in each process. The networks that
come with the program are plain modules as well, and are read here: of each graph both find the same.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from trainables.graph.graph import IMAGE, Graph, Node

Read = Callable[[Any], tuple[str, dict[str, Any]]]
"""A function of a module that returns its operator and attributes."""
MODULES: dict[type[nn.Module], Read] = {
    nn.Conv2d: lambda m: (
        "conv2d",
        {
            "weight": tuple(m.weight.shape),
            "bias": m.bias is not None,
            "groups": m.groups,
            "stride": m.stride,
            "dilation": m.dilation,
            "padding": m.padding,
        },
    ),
    nn.Linear: lambda m: ("linear", {"weight": tuple(m.weight.shape), "bias": m.bias is not None}),
    nn.BatchNorm2d: lambda m: (
        "batch_norm",
        {"channels": m.num_features, "eps": m.eps, "momentum": m.momentum, "dims": 2},
    ),
    nn.ReLU: lambda m: ("relu", {}),
    nn.ReLU6: lambda m: ("clip", {"low": 0.0, "high": 6.0}),
    nn.Dropout: lambda m: ("dropout", {"p": m.p}),
    nn.Dropout2d: lambda m: ("channel_dropout", {"p": m.p}),
    nn.MaxPool2d: lambda m: (
        "max_pool",
        {
            "kernel": _pair(m.kernel_size),
            "stride": _pair(m.stride),
            "padding": _pair(m.padding),
            "dilation": _pair(m.dilation),
            "ceil": m.ceil_mode,
        },
    ),
}


def trace(module: nn.Module, image: tuple[int, int, int]) -> Graph | None:
    """Returns the graph of a module on images (C, H, W); None where it holds more than what is read here.

    The module is left in evaluation mode.
    """
    try:
        traced = fx.symbolic_trace(module.eval())
    except Exception:  # whatever a module's own code raises on values that are none
        return None
    names: dict[fx.Node, str] = {}
    nodes: list[Node] = []
    for node in traced.graph.nodes:
        if node.op == "placeholder" and not names:
            names[node] = IMAGE
        elif node.op == "output":
            return Graph(image, tuple(nodes), names[node.args[0]]) if node.args[0] in names else None
        else:
            found, taken = _read(node, traced), set(names.values())
            if found is None or any(n not in names for n in node.all_input_nodes):
                return None
            kind, attributes = found
            name = _name(node, kind, taken)
            if name in taken:  # a layer that is called again
                return None
            names[node] = name
            nodes.append(Node(name, kind, tuple(names[n] for n in node.all_input_nodes), attributes))
    return None


def _read(node: fx.Node, traced: fx.GraphModule) -> tuple[str, dict[str, Any]] | None:
    """Returns the operator and attributes of a node; None where it is none of those known here."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        read = MODULES.get(type(module))
        return None if read is None or len(node.args) != 1 or not _is_plain(module, node.args[0]) else read(module)
    both = len(node.all_input_nodes) == len(node.args) == 2
    if node.target in (operator.add, torch.add) and both and not node.kwargs:
        return "add", {}
    dims = node.kwargs.get("dim")
    if node.target is torch.mean and len(node.args) == len(node.kwargs) == 1 and isinstance(dims, tuple | list):
        return "mean", {"dims": tuple(dims), "keep": False}
    if node.target is torch.relu and len(node.args) == 1:
        return "relu", {}
    return None


def _is_plain(module: nn.Module, x: fx.node.Argument) -> bool:
    """Whether a layer that reads `x` does no more than its operator says."""
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if isinstance(module, nn.Conv2d):
        # `capture` takes single pixels of the image with gaps between them by a slice.
        sparse = module.kernel_size == (1, 1) and max(module.stride) > 1
        on_image = isinstance(x, fx.Node) and x.op == "placeholder"
        return module.padding_mode == "zeros" and not isinstance(module.padding, str) and not (sparse and on_image)
    return not isinstance(module, nn.BatchNorm2d) or (module.affine and module.track_running_stats)


def _name(node: fx.Node, kind: str, taken: set[str]) -> str:
    """Returns the path of a layer, or the operator's name in the module that asks for it."""
    if node.op == "call_module" and kind in ("conv2d", "linear", "batch_norm"):
        return str(node.target)
    stack = list((node.meta.get("nn_module_stack") or {}).keys())
    stack = stack[:-1] if node.op == "call_module" else stack
    path = stack[-1] if stack else ""
    return unused(f"{path}.{kind}" if path else kind, taken)


def unused(wanted: str, taken: set[str]) -> str:
    """Returns a name that no node has: the one wanted, or that with a number."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def graph_of(module: nn.Module, image: tuple[int, int, int]) -> Graph:
    """Returns the graph of any module, without its weights; errors are those of `capture`."""
    found = trace(module, image)
    if found is not None:
        return found
    from trainables.graph.capture import capture

    return capture(module.to_empty(device="cpu") if _is_meta(module) else module, image).graph


def _is_meta(module: nn.Module) -> bool:
    return any(p.is_meta for p in module.parameters())
