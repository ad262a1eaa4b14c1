"""The deployable file `model.onnx`: integer weights between QuantizeLinear and DequantizeLinear nodes.

It takes uint8 pixels and normalizes them itself, and computes the function of the packed file that it was
written from. Its metadata `tune_app` is JSON: a format version, the packed file's header and SHA-256.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.config import Architecture
from trainables.export.onnx.activations import Value, dequantized
from trainables.export.onnx.nodes import FLOAT, Nodes
from trainables.export.onnx.steps import emit
from trainables.export.onnx.weights import LayerWeights, float_weights, packed_weights
from trainables.export.onnx.writer import Writer
from trainables.export.packed import unpack
from trainables.graph.graph import IMAGE
from trainables.models.model import Model
from trainables.models.units import units

VERSION = 1
KEY = "tune_app"


def write_onnx(content: bytes) -> bytes:
    """Returns the ONNX file of a packed file; equal packed files give equal bytes.

    Raises:
        CorruptFile: the bytes are no packed file.
        ConfigError: the network has an activation function that the writer does not know.
    """
    packed = unpack(content)
    network, header = packed.network(), packed.header
    source = {"packed_sha256": hashlib.sha256(content).hexdigest(), "packed_header": header.model_dump(mode="json")}
    weights = packed_weights(packed, network)
    return network_onnx(network, weights, header.architecture, mean=header.mean, std=header.std, source=source)


def write_float_onnx(
    model: Model, architecture: Architecture, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> bytes:
    """Returns the ONNX file of a network without quantizers, batch norm folded, to compare compressed files with.

    Raises:
        ConfigError: the network has an activation function that the writer does not know.
    """
    weights = {name: float_weights(unit) for name, unit in units(model).items()}
    source = {"architecture": architecture.model_dump(mode="json"), "mean": mean, "std": std}
    return network_onnx(model, weights, architecture, mean=mean, std=std, source=source)


def network_onnx(
    network: Model,
    weights: Mapping[str, LayerWeights],
    architecture: Architecture,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    source: Mapping[str, Any],
) -> bytes:
    """Returns the ONNX file of a network's graph and quantizers with these weights; `source` becomes metadata."""
    nodes = Nodes()
    writer, x = Writer(nodes, network, weights), _normalized(nodes, mean, std)
    graph = network.graph()
    values = {IMAGE: x}
    for node in graph.nodes:
        values[node.name] = emit(node, [values[name] for name in node.inputs], writer)
    return nodes.file(
        image=architecture.image,
        classes=architecture.classes,
        output=dequantized(nodes, values[graph.output]),
        metadata={KEY: json.dumps({"version": VERSION, **source}, sort_keys=True)},
    )


def _normalized(nodes: Nodes, mean: tuple[float, ...], std: tuple[float, ...]) -> Value:
    """Normalizes pixels as `trainables.data.images.Images` does it, to the last bit."""
    center = np.array(mean, np.float32) * np.float32(255)
    scale = 1 / (np.array(std, np.float32) * np.float32(255))
    pixels = nodes.add("Cast", "pixels", name="pixels.float", to=FLOAT)
    middle = nodes.constant("pixels.mean", center.reshape(1, -1, 1, 1))
    factor = nodes.constant("pixels.inverse_std", scale.reshape(1, -1, 1, 1))
    return Value(nodes.add("Mul", nodes.add("Sub", pixels, middle, name="pixels.centered"), factor, name="image"))
