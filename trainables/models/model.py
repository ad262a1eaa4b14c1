"""Model: the network of an architecture, which computes its graph; and how one is built."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import Architecture, ModelConfig, image_size_of
from trainables.data.data_sets import DataSet
from trainables.errors import ConfigError
from trainables.graph.graph import IMAGE, Graph, Node
from trainables.graph.operators import OPERATORS
from trainables.models.fusing import QUANTIZE, UNIT, UnitPlan
from trainables.models.layout import Layout, layout_of
from trainables.models.placing import Point
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import ConvUnit, LinearUnit, NormUnit, QuantPoint, Unit, count_parameters, initialize_

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU}
"""The modules of activations that others know by their type."""
RELU6 = {"low": 0.0, "high": 6.0}
"""The bounds of a clip that is a ReLU6."""


class Function(nn.Module):
    """An operator without tensors, as the activation of a unit."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.operator, self.attributes = node.operator, dict(node.attributes)

    def forward(self, x: Tensor) -> Tensor:
        run = OPERATORS[self.operator].run
        assert run is not None
        return run(x, **self.attributes)


class Model(nn.Module):
    """The network of an architecture: images (N, C, S, S) float32 in, logits (N, classes) out.

    It computes its graph node by node; layers, norms and activations are units with places for quantizers. Weights are
    fresh, as torch draws them.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self._layout = layout = layout_of(architecture)
        self._program = _Program(self, layout)

    def forward(self, x: Tensor) -> Tensor:
        return self._program(x)

    def resumed(self, x: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        """Computes the network step by step; before each, yields its name and a function that computes the logits.

        The function begins at that step with the weights which the parts have then: what lies before a layer is
        computed once, however often the layer is changed.
        """
        return self._program.resumed(x)

    def prune_groups(self) -> list[PruneGroup]:
        """Returns the sets of channels that can only be removed together, named by keys of Architecture.widths."""
        return list(self._layout.groups)

    def graph(self) -> Graph:
        """Returns what forward() computes in evaluation mode, as data: units and points are nodes."""
        return self._layout.graph

    @property
    def layout(self) -> Layout:
        """The parts that the network was built of."""
        return self._layout


class _Program:
    """The steps of a network: what runs, the values that it reads and writes, and those that nobody needs after it."""

    steps: list[tuple[Callable[..., Tensor], tuple[int, ...], int, tuple[int, ...]]]
    names: list[str]

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        graph = layout.graph
        place = {IMAGE: 0} | {node.name: i for i, node in enumerate(graph.nodes, start=1)}
        last = {name: node.name for node in graph.nodes for name in (node.name, *node.inputs)}
        self.size, self.output, self.steps = len(place), place[graph.output], []
        self.names = [node.name for node in graph.nodes]
        for node in graph.nodes:
            inputs = tuple(place[name] for name in node.inputs)
            done = tuple(place[n] for n, end in last.items() if end == node.name and n != graph.output)
            self.steps.append((_part(node, model, layout), inputs, place[node.name], done))

    def __call__(self, x: Tensor) -> Tensor:
        return self._rest(self._start(x), 0)

    def resumed(self, x: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
        values = self._start(x)
        for at, name in enumerate(self.names):
            yield name, partial(self._rest, values, at)
            self._run(values, at)

    def _start(self, x: Tensor) -> list[Any]:
        return [x, *[None] * (self.size - 1)]

    def _rest(self, values: list[Any], first: int) -> Tensor:
        values = [*values]
        for at in range(first, len(self.steps)):
            self._run(values, at)
        logits: Tensor = values[self.output]
        return logits

    def _run(self, values: list[Any], at: int) -> None:
        run, inputs, output, done = self.steps[at]
        values[output] = run(*[values[i] for i in inputs])
        for i in done:
            values[i] = None


def _part(node: Node, model: nn.Module, layout: Layout) -> Callable[..., Tensor]:
    """Returns what computes a node; what has tensors becomes part of the model, under the node's name."""
    if node.operator == UNIT:
        return _register(model, node.name, _unit(layout.fused.units[node.name], layout))
    if node.operator == QUANTIZE:
        return _register(model, node.name, _point(layout.own_points[node.name]))
    operator = OPERATORS[node.operator]
    if node.operator == "batch_norm":
        return _register(model, node.name, NormUnit(**node.attributes))
    if operator.module is not None:
        return _register(model, node.name, operator.module(**node.attributes))
    assert operator.run is not None
    return partial(operator.run, **node.attributes) if node.attributes else operator.run


def _unit(plan: UnitPlan, layout: Layout) -> Unit:
    """Builds a unit with fresh weights."""
    make, role = OPERATORS[plan.layer.operator].module, layout.roles[plan.name]
    assert make is not None
    layer = make(**plan.layer.attributes)
    activation = None if plan.activation is None else _activation(plan.activation)
    out = _point(layout.points.outputs.get(plan.name))
    if plan.layer.operator == "linear":
        entry = _point(layout.points.inputs.get(plan.name))
        return LinearUnit(layer, role=role, activation=activation, in_point=entry, out_point=out)  # type: ignore[arg-type]
    norm = None if plan.norm is None else OPERATORS["batch_norm"].module(**plan.norm.attributes)  # type: ignore[misc]
    return ConvUnit(layer, role=role, norm=norm, activation=activation, out_point=out)  # type: ignore[arg-type]


def _activation(node: Node) -> nn.Module:
    if node.operator == "clip" and dict(node.attributes) == RELU6:
        return nn.ReLU6()
    return ACTIVATIONS[node.operator]() if node.operator in ACTIVATIONS else Function(node)


def _point(point: Point | None) -> QuantPoint | None:
    return None if point is None else QuantPoint(point.role, signed=point.signed, limit=point.limit)


def _register(model: nn.Module, path: str, module: nn.Module | None) -> nn.Module:
    """Makes a module part of the model under a path; modules on the way are made."""
    assert module is not None
    *parents, name = path.split(".")
    here = model
    for parent in parents:
        if parent not in here._modules:
            here.add_module(parent, nn.Module())
        here = here._modules[parent]  # type: ignore[assignment]
    try:
        here.add_module(name, module)
    except KeyError as err:
        raise ConfigError(
            f"a part of the network has the name {path!r}, which torch keeps for itself: rename it."
        ) from err
    return module


def build(architecture: Architecture) -> Model:
    """Builds a network with fresh weights; seed torch before if they matter."""
    model = Model(architecture)
    initialize_(model)
    return model


def unpruned(architecture: Architecture) -> Model:
    """Builds the network before pruning, on the meta device: without memory for its tensors."""
    with torch.device("meta"):
        return build(architecture.model_copy(update={"widths": {}, "kept": {}}))


def baseline_architecture(model: ModelConfig, data: DataSet) -> Architecture:
    """Returns the unpruned architecture that fits a data set."""
    _, channels, height, width = data.train.images.shape
    return Architecture(model=model, classes=data.classes, channels=channels, image_size=image_size_of(height, width))


def fp32_bytes(architecture: Architecture) -> int:
    """Counts 4 bytes per parameter of the unpruned network: the numerator of every compression ratio."""
    return 4 * count_parameters(unpruned(architecture))
