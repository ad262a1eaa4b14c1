"""Writer: what the ONNX form of an operator may use, and the type of such a form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trainables.export.onnx.nodes import Nodes
from trainables.export.onnx.weights import LayerWeights
from trainables.graph.graph import IMAGE, Node
from trainables.models.model import Model
from trainables.models.units import quant_points, units


class Writer:
    """A view of what a node may use: the graph under construction, and the network with its weights."""

    def __init__(self, nodes: Nodes, network: Model, weights: Mapping[str, LayerWeights]) -> None:
        self.nodes, self.weights, self.network = nodes, weights, network
        self.units, self.points = units(network), quant_points(network)
        layout = network.layout
        self.leaves = {node.name for node in layout.graph.nodes if node.operator == "parameter"}
        self.sizes = {name: layout.size(name) for name in (IMAGE, *(node.name for node in layout.graph.nodes))}
        self.ranks = {name: len(shape) for name, shape in self.sizes.items()}

    def add(self, op: str, *inputs: str, name: str, **attributes: object) -> str:
        """Adds a node and returns its name."""
        return self.nodes.add(op, *inputs, name=name, **attributes)

    def floats(self, name: str, values: Any) -> str:
        """Adds a float32 constant and returns its name."""
        return self.nodes.constant(name, np.asarray(values, np.float32))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Adds an int64 constant and returns its name."""
        return self.nodes.constant(name, np.array(values, np.int64))


Form = Callable[[Node, Sequence[str], Writer], str]
"""A function of a node, the names of its float32 inputs and the writer: it adds nodes and returns its output's name."""
