"""Graph: what a network computes, as a list of nodes that is read, checked and stored without its code (torch-free)."""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from trainables.errors import ConfigError

VERSION = 1
"""The version of the form of a stored graph."""
IMAGE = "image"
"""The name of the input: a batch of images (N, C, H, W)."""
MAX_NODES = 20_000
"""Nodes that a stored graph may have: a ResNet-1000 has fewer, and a small file must not ask for any memory."""
MAX_BYTES = 1 << 24
"""Bytes of JSON that a stored graph may unfold to; deflated zeros take next to no bytes."""


@dataclass(frozen=True)
class Node:
    """One operation: a name of its own, an operator of ours, the nodes that it reads, and its constants."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def with_attributes(self, **changes: Any) -> "Node":
        """Returns the node with other constants."""
        return replace(self, attributes={**self.attributes, **changes})


@dataclass(frozen=True)
class Graph:
    """A network in evaluation mode: its nodes in the order of computation, the shape of its image, and its output.

    `image` is (C, H, W); `output` names the node with the logits (N, classes). Sizes of the batch occur nowhere.
    """

    image: tuple[int, int, int]
    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        known = {IMAGE}
        for node in self.nodes:
            if node.name in known or not set(node.inputs) <= known:
                raise ConfigError(
                    f"graph: node {node.name!r} has a name twice, or reads what is not computed before it."
                )
            known.add(node.name)
        if self.output not in known:
            raise ConfigError(f"graph: the output {self.output!r} is no node.")

    def by_name(self) -> dict[str, Node]:
        """Returns the nodes by name."""
        return {node.name: node for node in self.nodes}

    def readers(self) -> dict[str, list[Node]]:
        """Returns the nodes that read each node, or the image, by its name."""
        found: dict[str, list[Node]] = {IMAGE: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    def stored(self) -> str:
        """Returns the graph as text: JSON, deflated, in base64; equal graphs give equal text."""
        number = {IMAGE: 0} | {node.name: place + 1 for place, node in enumerate(self.nodes)}
        nodes = [[n.name, n.operator, [number[i] for i in n.inputs], dict(n.attributes)] for n in self.nodes]
        body = {"version": VERSION, "image": list(self.image), "output": number[self.output], "nodes": nodes}
        plain = json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
        return base64.b64encode(zlib.compress(plain, 9)).decode()


@lru_cache(maxsize=64)
def read_graph(text: str) -> Graph:
    """Returns the graph of a stored text.

    Raises:
        ConfigError: the text is no graph, one of another version, or a larger one than may be stored.
    """
    try:
        unfold = zlib.decompressobj()
        plain = unfold.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
        if unfold.unconsumed_tail or not unfold.eof:
            raise ValueError("it is cut off, or too large")
        body = json.loads(plain)
        if body["version"] != VERSION:
            raise ValueError(f"it has version {body['version']}, not {VERSION}")
        if len(body["nodes"]) > MAX_NODES:
            raise ValueError(f"it has {len(body['nodes']):,} nodes, more than {MAX_NODES:,}")
        names = [IMAGE, *(str(node[0]) for node in body["nodes"])]
        nodes = tuple(
            Node(
                str(name), str(operator), tuple(names[_place(i, place + 1)] for i in inputs), _tuples(dict(attributes))
            )
            for place, (name, operator, inputs, attributes) in enumerate(body["nodes"])
        )
        channels, height, width = (_place(size, MAX_BYTES) for size in body["image"])
        return Graph((channels, height, width), nodes, names[_place(body["output"], len(names))])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, zlib.error) as err:
        raise ConfigError(f"this is no graph of a network: {err}. Capture the network again.") from err


def _place(value: Any, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"{value!r} is no place below {end}")
    return value


def _tuples(value: Any) -> Any:
    """Turns lists into tuples, as attributes have them."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return {name: _tuples(part) for name, part in value.items()} if isinstance(value, dict) else value
