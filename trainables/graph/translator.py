"""Translator: an exported program, operator by operator, as nodes of a graph; handlers know one operator each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.node import map_aggregate

from trainables.errors import ConfigError
from trainables.graph.graph import IMAGE, Graph, Node
from trainables.graph.network_file import NetworkFile
from trainables.graph.trace import unused


@dataclass(frozen=True)
class Call:
    """A call of an operator of torch: its arguments by name."""

    node: torch.fx.Node
    arguments: dict[str, Any]
    batch: int | None = None
    """The number of images, where the module's code fixed it to that of the example, as `len(x)` does."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def name(self) -> str:
        """The name of torch's operator."""
        return str(getattr(self.node.target, "_opname", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what comes out, -1 for the axis with the batch."""
        return self._sizes(self.node.meta["val"])

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of what comes out, where that is several tensors."""
        return [self._sizes(value) for value in self.node.meta["val"]]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the first input, -1 for the axis with the batch."""
        return self._sizes(self.node.args[0].meta["val"])  # type: ignore[union-attr]

    def _sizes(self, value: Tensor) -> tuple[int, ...]:
        fixed = self.batch or math.inf
        return tuple(-1 if not isinstance(size, int) or size % fixed == 0 else size for size in value.shape)

    @property
    def rank(self) -> int:
        """The number of axes of the input."""
        return len(self.input_shape)

    def dims(self, name: str = "dim") -> tuple[int, ...]:
        """Returns axes, counted from the first one; all of them for none."""
        dims = self[name]
        dims = range(self.rank) if dims is None or dims == [] else dims if isinstance(dims, list | tuple) else [dims]
        return tuple(sorted(d % self.rank for d in dims))


Handler = Callable[["Translator", Call], Any]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add


class Translator:
    """A translation of an exported program, node by node; values are names of nodes, or tensors known by now."""

    def __init__(self, exported: torch.export.ExportedProgram, module: nn.Module) -> None:
        self.exported, self.module = exported, module
        self.nodes: list[Node] = []
        self.state: dict[str, Tensor] = {}
        self.values: dict[torch.fx.Node, Any] = {}
        self.origin: dict[int, str] = {}
        self.learned: set[int] = set()
        self.taken: set[str] = {IMAGE}
        self.folders: set[str] = set()
        self.copies: list[str] = []
        self.batch: int | None = None
        self.here: torch.fx.Node | None = None

    def run(self, image: tuple[int, int, int]) -> NetworkFile:
        signature = self.exported.graph_signature
        tensors = {**self.exported.state_dict, **self.exported.constants}
        named = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        output = None
        for node in self.exported.graph.nodes:
            self.here = node
            if node.op == "placeholder":
                name = named.get(node.name)
                if name is None:
                    self.values[node] = IMAGE
                    count = node.meta["val"].shape[0]
                    self.batch = count if isinstance(count, int) else count.node.maybe_as_int()
                else:
                    self.values[node] = tensors[name].detach()
                    self.origin[id(self.values[node])] = name
                    if node.name in signature.inputs_to_parameters:
                        self.learned.add(id(self.values[node]))
            elif node.op == "output":
                outputs = node.args[0]
                output = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 1 else None
            else:
                self.values[node] = self.call(node)
        if not isinstance(output, torch.fx.Node) or not isinstance(self.values[output], str):
            raise ConfigError("a network returns one tensor of logits, and it must depend on the image.")
        logits = tuple(output.meta["val"].shape)
        if len(logits) != 2:
            raise ConfigError(f"a network returns logits (N, classes), but this one has {len(logits)} axes.")
        graph = _pruned_of_unread(Graph(image, tuple(self.nodes), self.values[output]))
        read = {node.name for node in graph.nodes}
        state = {name: tensor for name, tensor in self.state.items() if name.rpartition(".")[0] in read}
        copies = list(dict.fromkeys(name for name in self.copies if name in read))
        return NetworkFile(graph, state, {"copies": copies} if copies else {})

    def call(self, node: torch.fx.Node) -> Any:
        """Returns the value of a call: computed at once where nothing in it comes from the image."""
        arguments = [self.value(a) for a in node.args], {k: self.value(a) for k, a in node.kwargs.items()}
        name = str(getattr(node.target, "_opname", None) or getattr(node.target, "__name__", node.target))
        if name == "sym_size":
            return node.meta["val"]
        if name.startswith(("_assert_", "sym_constrain_")):
            return None
        if name == "getitem":
            return arguments[0][0][arguments[0][1]]
        if not any(isinstance(node, torch.fx.Node) and self._of_the_image(node) for node in node.all_input_nodes):
            found = (
                self._of_the_batch(name, arguments)
                if any(isinstance(x, torch.SymInt) for x in leaves(arguments))
                else node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
            )
            if any(id(x) in self.learned for x in leaves(arguments)):
                self.learned.update(id(x) for x in leaves([found]))
            return found
        handler = HANDLERS.get(name)
        if handler is None:
            raise self.refusal(name)
        schema = node.target._schema.arguments  # type: ignore[union-attr]
        given = dict(zip((a.name for a in schema), arguments[0], strict=False)) | arguments[1]
        every = {a.name: given.get(a.name, a.default_value if a.has_default_value() else None) for a in schema}
        return handler(self, Call(node, every, self.batch))

    def _of_the_image(self, node: torch.fx.Node) -> bool:
        """Whether a value is computed from the image: names of nodes stand for such values."""
        return any(isinstance(leaf, str) for leaf in leaves([self.values[node]]))

    def value(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return [self.value(part) for part in argument]
        return argument

    def _of_the_batch(self, name: str, arguments: Any) -> Any:
        """Handles what depends on the number of images alone: what is repeated for each image is kept for one."""
        args, named = arguments
        assert self.here is not None
        found = self.here.meta["val"]
        if not isinstance(found, Tensor):
            return found
        if any(isinstance(n, torch.SymInt) and not n.node.expr.is_symbol for n in leaves(arguments)):
            raise self.refusal(f"{name} of the number of images")
        args, named = map_aggregate((args, named), lambda n: 1 if isinstance(n, torch.SymInt) else n)
        one = self.here.target(*args, **named)  # type: ignore[operator]
        if name == "expand":
            self.origin[id(one)] = self.origin.get(id(args[0]), "")
        return one

    def refusal(self, what: str) -> ConfigError:
        """Returns the error that says which operator is missing, and where the user's code asks for it."""
        assert self.here is not None
        trace = [line.strip() for line in (self.here.meta.get("stack_trace") or "").splitlines() if line.strip()]
        place = next((line for line in reversed(trace) if line.startswith("File")), "")
        where = f" ({place.removeprefix('File ')})" if place else ""
        return ConfigError(
            f"the operator {what} is not supported{where}: write that part with other operators, or leave it out of "
            "the network."
        )

    def add(self, operator: str, inputs: Sequence[str], called: str = "", /, **attributes: Any) -> str:
        """Adds a node and returns its name."""
        path = self._module_path()
        name = self._free(called or (f"{path}.{operator}" if path else operator), operator)
        self.taken.add(name)
        self.folders |= set(_outer(name))
        self.nodes.append(Node(name, operator, tuple(inputs), attributes))
        return name

    def _free(self, name: str, operator: str) -> str:
        """Returns a name that no node has, and of which none is a part: a layer may hold others, a node does not."""
        for outer in _outer(name):
            if outer != IMAGE and outer in self.taken:
                return self._free(f"{outer}_{name[len(outer) + 1 :]}", operator)
        return unused(f"{name}.{operator}" if name in self.folders else name, self.taken)

    def tensor(self, value: Any) -> str:
        """Returns the node of a value; a tensor that is known already becomes a parameter.

        What is not computed from the module's parameters, such as its buffers, is not learned.
        """
        if isinstance(value, str):
            return value
        if not isinstance(value, Tensor):
            raise self.refusal("that computes with the number of images")
        fixed = {} if id(value) in self.learned else {"learned": False}
        parent, _, own = (self.origin.get(id(value)) or "constant").rpartition(".")
        name = self.add("parameter", (), f"{parent}.{own}".lstrip("."), shape=tuple(value.shape), **fixed)
        self.state[f"{name}.value"] = value.clone().float()
        return name

    def layer(
        self,
        operator: str,
        x: Any,
        tensors: Mapping[str, Tensor | None],
        of: Tensor | None = None,
        /,
        **attributes: Any,
    ) -> str:
        """Adds a node with parameters, which is named after the module that its weight is of, or `of` if it is given.

        Where a module is called again, the place gets a copy of the weights: from here on the two are pruned, trained
        and stored each by itself.
        """
        assert self.here is not None
        named = self.origin.get(id(tensors.get("weight") if of is None else of), "")
        origin = named.rpartition(".")[0] or self._leaf_path() or operator
        if origin in self.taken:
            self.copies.append(origin)
        name = self.add(operator, (self.tensor(x),), origin, **attributes)
        self.state |= {
            f"{name}.{part}": tensor.clone().float() for part, tensor in tensors.items() if tensor is not None
        }
        return name

    def value_or_parts(self, name: str) -> Any:
        """Returns a node's name in the form of the call's result: of several tensors we have the first one."""
        assert self.here is not None
        return [name] if isinstance(self.here.meta["val"], list | tuple) else name

    def _leaf_path(self) -> str:
        assert self.here is not None
        stack = list((self.here.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else ""

    def _module_path(self) -> str:
        """Returns the path of the module that holds more than this call: a ReLU's is that of the block around it."""
        assert self.here is not None
        stack = [str(path) for path, _ in (self.here.meta.get("nn_module_stack") or {}).values()]
        leaf = bool(stack) and not list(self.module.get_submodule(stack[-1]).children())
        return stack[-2 if leaf and len(stack) > 1 else -1] if stack else ""


def _outer(name: str) -> list[str]:
    """Returns what a name lies in: `a` and `a.b` of `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def pair(value: Any) -> tuple[int, int]:
    """Returns a size of one number or two as two."""
    one, other = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    return (int(one[0]), int(other[0])) if isinstance(one, list | tuple) else (int(one), int(other))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return leaves(list(value.values()))
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list | tuple) else [value]


def _pruned_of_unread(graph: Graph) -> Graph:
    """Returns the graph without nodes that its output does not need."""
    needed, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
            kept.append(node)
    return Graph(graph.image, tuple(reversed(kept)), graph.output)
