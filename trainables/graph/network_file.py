"""A captured network as one file: safetensors with the tensors of its nodes; graph and origin are metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trainables.errors import ConfigError
from trainables.graph.graph import Graph, read_graph
from trainables.storage import StoragePath, read_bytes

KEY, VERSION = "tune_app_network", 1
SUFFIX = ".safetensors"
"""The suffix of the files of captured networks."""


@dataclass(frozen=True)
class NetworkFile:
    """A captured network: graph, tensors as `<node>.<parameter>`, and notes on where it came from."""

    graph: Graph
    state: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)


def network_bytes(network: NetworkFile) -> bytes:
    """Returns the file of a network; equal networks give equal bytes."""
    body = {"version": VERSION, "graph": network.graph.stored(), "about": dict(network.about)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(network.state.items())}
    content: bytes = save(tensors, metadata={KEY: json.dumps(body, sort_keys=True)})
    return content


def read_network_file(path: StoragePath) -> NetworkFile:
    """Reads the file of a captured network.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        content = read_bytes(path)
    except OSError as err:
        raise ConfigError(f"cannot read {path}: {err.strerror or err}. Give the path of a captured network.") from err
    return parse_network(content, source=str(path))


def parse_network(content: bytes, *, source: str) -> NetworkFile:
    """Returns the network of a file's bytes, or raises ConfigError: they are none."""
    way_out = "make one with `tune-app capture`"
    try:
        tensors: dict[str, Tensor] = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        body = json.loads(metadata[KEY])
        if body["version"] != VERSION:
            raise ConfigError(f"{source} is a captured network of version {body['version']}, not {VERSION}: {way_out}.")
        return NetworkFile(read_graph(str(body["graph"])), tensors, dict(body["about"]))
    except ConfigError as err:
        raise ConfigError(f"{source}: {err}") from err
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"{source} is no captured network: {way_out}.") from err
