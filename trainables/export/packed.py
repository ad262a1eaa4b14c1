"""The packed file `model.mbq`: entropy-coded integer weights, side information and one header.

It is a safetensors file with six arrays and one metadata string. Layers follow in forward order:

- `codes` U8: the words of the rANS stream that layers share, then what layers store by themselves; weights in
  C order of (out, in / groups, kh, kw)
- `models` U8: what each layer's coder needs before it can decode
- `multipliers`, `biases`: per output channel, F16, or I8 and U8 with 8 bits of side information
- `floats` F16 and `graph` U8, only in files that bring their graph along: what norms that stand alone and parameters
  hold, and the deflated graph
- `references` F32: per layer, what multipliers and biases are relative to; `steps` F32: per activation quantizer
- metadata `tune_app`: JSON with architecture, scheme, input normalization, the coder of each layer, a SHA-256 of
  all decoded weights and one of the whole file

`unpack` inverts it from bytes: nothing in a file is executed, and nothing of it is trusted unchecked.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trainables.data.data_sets import DataSet
from trainables.errors import ArtifactMismatch, CorruptFile, Diverged
from trainables.export import container
from trainables.export.coders.coder import Choice, LayerSpec, decode, encode
from trainables.export.coders.streams import CodedWeights
from trainables.export.header import Contents, Header, from_json, layer_specs, skeleton, to_json
from trainables.export.side_arrays import SIDE_DTYPES, from_arrays, to_arrays
from trainables.models.attach import activation_quantizers, attach_quantizers_
from trainables.models.model import Model, build
from trainables.models.quantizer import Quantizer
from trainables.models.units import Unit, units
from trainables.quant.fold import float_shapes, fold_, set_floats_, side_floats, side_info, weight_codes
from trainables.quant.integer_bias import unit_steps
from trainables.quant.side_info import SideInfo
from trainables.stages.stage import StageResult

__all__ = ["PARTS", "Header", "PackedModel", "pack", "pack_result", "size_breakdown", "unpack"]

PARTS = ("codes", "models", "multipliers", "biases", "references", "steps")
"""The arrays of every file."""
MORE_PARTS = ("floats", "graph")
"""The arrays of a file that brings its graph along."""


@dataclass(frozen=True)
class PackedModel:
    """A decoded file; codes and side information of one layer each in forward order.

    `codes` are int8, int16 above 8 bits, or the float32 weights of a layer of 32 bits, in the weight's shape.
    `side_info` is as stored; `scales` turns it into float32. `coded_bits` is what a layer's weights take in the file.
    """

    header: Header
    layers: Sequence[LayerSpec]
    kinds: Sequence[int]
    coded_bits: Sequence[float]
    codes: Sequence[np.ndarray]
    side_info: Sequence[SideInfo]
    steps: np.ndarray
    floats: Mapping[str, torch.Tensor]

    def scales(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns m and b of one layer as stored, (outputs,) float32: the layer computes conv(x, codes) · m + b.

        Where inputs and weights are quantized, the network moves b to the nearest whole unit (`whole_bias`).
        """
        multiplier, bias = self.side_info[layer].exact()
        return multiplier.numpy(), bias.numpy()

    def network(self) -> Model:
        """Returns the network that the file describes: folded units, and its activations. On CPU, eval mode."""
        model = build(self.header.architecture)
        attach_quantizers_(model, self.header.scheme)
        with torch.no_grad():
            for quantizer, step in zip(activation_quantizers(model).values(), self.steps.tolist(), strict=True):
                quantizer.step.fill_(step)
        set_floats_(model, self.floats)
        steps_by_unit = unit_steps(model)
        for (name, unit), codes, info in zip(units(model).items(), self.codes, self.side_info, strict=True):
            fold_(unit, torch.from_numpy(codes), info, steps_by_unit[name])
        return model.eval()


def pack(model: Model, header: Header, *, coder: Choice = "auto") -> bytes:
    """Returns the file of a quantized network whose side information is rounded (`round_side_info_`).

    Raises:
        Diverged: a weight, side information or the step of an activation is not finite.
        ArtifactMismatch: a quantizer gives a weight of one bit the code 0.
        ConfigError: the network has more weights than a file may hold.
    """
    layers = layer_specs(model)
    assert layers == layer_specs(skeleton(header)), "the header describes another network"
    weights = [_weights(unit, layer) for unit, layer in zip(units(model).values(), layers, strict=True)]
    coded = encode(layers, weights, choice=coder)
    infos = [side_info(unit, name, side_bits=header.scheme.side_bits) for name, unit in units(model).items()]
    steps = [_step(quantizer, name) for name, quantizer in activation_quantizers(model).items()]
    wide = tuple(i for i, info in enumerate(infos) if info.bias.dtype == torch.int16)
    words, digest = len(coded.words) // 4, _digest(weights)
    contents = Contents(kinds=coded.kinds, words=words, wide_biases=wide, weights_sha256=digest)
    arrays = {
        "codes": np.frombuffer(coded.words + coded.data, np.uint8),
        "models": np.frombuffer(coded.models, np.uint8),
        **to_arrays(infos),
        "steps": np.array(steps, np.float32),
    }
    graph = header.architecture.model.graph
    if not graph:
        return container.write(to_json(header, contents), arrays)
    floats = [value.cpu().numpy().ravel() for value in side_floats(model).values()]
    arrays["floats"] = np.concatenate([np.empty(0, np.float16), *floats])
    arrays["graph"] = np.frombuffer(base64.b64decode(graph), np.uint8)
    return container.write(to_json(header, contents), arrays, version=container.WITH_GRAPH)


def pack_result(result: StageResult, data: DataSet, *, coder: Choice = "auto") -> bytes:
    """Returns the file of what a stage that quantizes made, which takes images of `data`, as `pack` does."""
    assert result.scheme is not None, "the stage quantizes"
    header = Header(architecture=result.architecture, scheme=result.scheme, mean=data.mean, std=data.std)
    return pack(result.model(), header, coder=coder)


def unpack(content: bytes) -> PackedModel:
    """Decodes a file from its bytes, or raises CorruptFile: cut off, altered, of another version, or no packed file."""
    header, contents, model, arrays = _read(content)
    layers = layer_specs(model)
    if len(contents.kinds) != len(layers):
        raise CorruptFile(f"packed file: coders of {len(contents.kinds)} layers, the network has {len(layers)}")
    weights, bits = decode(layers, _streams(contents, arrays))
    if _digest(weights) != contents.weights_sha256:
        raise CorruptFile("packed file: the decoded weights are not those that were packed")
    steps = arrays["steps"]
    if steps.shape != (len(activation_quantizers(model)),) or not (np.isfinite(steps) & (steps > 0)).all():
        raise CorruptFile("packed file: steps of activations are missing, or are no positive numbers")
    infos = from_arrays(arrays, [layer.shape[0] for layer in layers], header.scheme.side_bits, contents.wide_biases)
    floats = _floats(arrays, model)
    return PackedModel(header, layers, contents.kinds, bits, weights, infos, steps, floats)


def size_breakdown(content: bytes) -> dict[str, int]:
    """Returns the bytes of a packed file by part; they sum to its length. Errors are those of `unpack`."""
    _, _, _, arrays = _read(content)
    parts = {name: array.nbytes for name in (*PARTS, *MORE_PARTS) if (array := arrays.get(name)) is not None}
    return {**parts, "header": len(content) - sum(parts.values())}


def _read(content: bytes) -> tuple[Header, Contents, Model, dict[str, np.ndarray]]:
    """Reads a file without decoding its weights: header, contents, the skeleton of the network, and checked arrays."""
    spec, arrays = container.read(content)
    graph = arrays.get("graph")
    if graph is not None and (graph.dtype != np.uint8 or graph.ndim != 1):
        raise CorruptFile("packed file: the graph is no string of bytes")
    if (graph is not None) != container.has_graph(content):
        raise CorruptFile("packed file: a graph belongs to the version that has one")
    header, contents, model = from_json(spec, graph="" if graph is None else base64.b64encode(graph.tobytes()).decode())
    _check_arrays(arrays, header)
    return header, contents, model, arrays


def _floats(arrays: Mapping[str, np.ndarray], model: Model) -> dict[str, torch.Tensor]:
    """Returns what norms that stand alone and parameters hold, by name."""
    shapes = float_shapes(model)
    stored = arrays.get("floats", np.empty(0, np.float16))
    sizes = [math.prod(shape) for shape in shapes.values()]
    if len(stored) != sum(sizes) or not np.isfinite(stored).all():
        raise CorruptFile(
            f"packed file: floats has {len(stored)} finite numbers at most, the network needs {sum(sizes)}"
        )
    parts = np.split(stored, np.cumsum(sizes)[:-1]) if sizes else []
    return {
        name: torch.from_numpy(part.copy()).view(shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def _weights(unit: Unit, layer: LayerSpec) -> np.ndarray:
    """Returns the codes of a layer, or its float weights, in the layer's shape and dtype."""
    if not torch.isfinite(unit.layer.weight).all():
        raise Diverged(f"a weight of {layer.name} is not finite: lower the learning rate, or import intact weights.")
    codes: np.ndarray = weight_codes(unit).cpu().contiguous().numpy().astype(layer.dtype)
    if layer.bits == 1 and not codes.all():
        raise ArtifactMismatch(f"{layer.name} has 1 bit, and its quantizer gives the code 0: it must heed `binary`.")
    return codes


def _step(quantizer: Quantizer, name: str) -> float:
    """Returns the step of an activation."""
    step = float(quantizer.safe_step().detach())
    if not math.isfinite(step):
        raise Diverged(f"the step of {name} is not finite: lower the learning rate.")
    return step


def _digest(weights: Sequence[np.ndarray]) -> str:
    """Returns the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for array in weights:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_arrays(arrays: Mapping[str, np.ndarray], header: Header) -> None:
    """Refuses arrays of other names, types or dimensions than the format has."""
    dtypes = {"codes": np.uint8, "models": np.uint8, **SIDE_DTYPES[header.scheme.side_bits], "steps": np.float32}
    if header.architecture.model.graph:
        dtypes |= {"floats": np.float16, "graph": np.uint8}
    if {name: array.dtype for name, array in arrays.items()} != {n: np.dtype(d) for n, d in dtypes.items()}:
        raise CorruptFile("packed file: other arrays than the format has")
    for name, array in arrays.items():
        if array.ndim != 1:
            raise CorruptFile(f"packed file: {name} has shape {array.shape}, not one dimension")


def _streams(contents: Contents, arrays: Mapping[str, np.ndarray]) -> CodedWeights:
    """Returns the streams in which the weights lie."""
    codes, end = arrays["codes"].tobytes(), 4 * contents.words
    if end > len(codes):
        raise CorruptFile(f"packed file: {contents.words} words do not fit into {len(codes)} bytes of codes")
    return CodedWeights(contents.kinds, arrays["models"].tobytes(), codes[:end], codes[end:])
