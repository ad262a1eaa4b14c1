"""The packed file `model.mbq`: integer codes, side information and one header; `unpack` inverts it from bytes.

It is a safetensors file with five tensors and one metadata string. Layers follow in forward order:

- `codes` U8: per layer q + Qp, bit-packed, padded to a byte; q in C order of (out, in / groups, kh, kw)
- `multipliers` F16, `biases` F16: per output channel; the weight of channel c is q · multiplier_c · reference
- `references` F32: per layer; `steps` F32: per activation quantizer
- metadata `tune_app`: JSON with the format version, architecture, scheme, input normalisation and a SHA-256
  of that JSON (without the hash) followed by the tensors' bytes
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from trainables.config import Architecture, Frozen, QuantScheme
from trainables.errors import ConfigError, CorruptFile
from trainables.export.bits import pack_bits, packed_bytes, unpack_bits
from trainables.models.model import Model, build
from trainables.models.units import Unit, units
from trainables.quant.attach import activation_quantizers, attach_quantizers_, weight_quantizer
from trainables.quant.fold import SideInfo, fold_, side_info

FORMAT, VERSION = "mbq", 1
KEY = "tune_app"
DTYPES: dict[str, np.dtype[Any]] = {
    "codes": np.dtype(np.uint8),
    "multipliers": np.dtype(np.float16),
    "biases": np.dtype(np.float16),
    "references": np.dtype(np.float32),
    "steps": np.dtype(np.float32),
}
MAX_HEADER_BYTES = 1 << 20


class Header(Frozen):
    """What the decoder must know beside the tensors."""

    format: str = FORMAT
    version: int = VERSION
    architecture: Architecture
    scheme: QuantScheme
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class PackedModel:
    """A decoded file. `codes` holds one int8 array per layer, in the shape of its weight."""

    header: Header
    codes: Sequence[np.ndarray]
    multipliers: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    references: Sequence[np.ndarray]
    steps: np.ndarray

    def network(self) -> Model:
        """The network that the file describes: folded units, static activation steps. On CPU, eval mode."""
        model = build(self.header.architecture)
        attach_quantizers_(model, self.header.scheme)
        for i, unit in enumerate(units(model).values()):
            info = SideInfo(*map(torch.from_numpy, (self.references[i], self.multipliers[i], self.biases[i])))
            fold_(unit, torch.from_numpy(self.codes[i]), info)
        with torch.no_grad():
            for quantizer, step in zip(activation_quantizers(model).values(), self.steps.tolist(), strict=True):
                quantizer.step.fill_(step)
        return model.eval()


def pack(model: Model, header: Header) -> bytes:
    """The file of a quantized network whose side information is rounded (`round_side_info_`).

    Raises:
        Diverged: side information is not finite.
    """
    layers = list(units(model).values())
    infos = [side_info(unit) for unit in layers]
    tensors = {
        "codes": np.concatenate([_packed_codes(unit) for unit in layers]),
        "multipliers": np.concatenate([info.multiplier.cpu().numpy() for info in infos]),
        "biases": np.concatenate([info.bias.cpu().numpy() for info in infos]),
        "references": np.array([float(info.reference) for info in infos], np.float32),
        "steps": np.array([float(q.safe_step().detach()) for q in activation_quantizers(model).values()], np.float32),
    }
    content = header.model_dump(mode="json")
    content_bytes: bytes = save(tensors, metadata={KEY: json.dumps({**content, "sha256": _checksum(content, tensors)})})
    return content_bytes


def unpack(content: bytes) -> PackedModel:
    """Decodes a file from its bytes; nothing in it is executed, and nothing of it is trusted unchecked.

    Raises:
        CorruptFile: truncated, altered, of another version, or no packed file at all.
    """
    header, tensors = _read(content)
    with torch.device("meta"):  # shapes alone: the header of a foreign file may describe a network of any size
        model = build(header.architecture)
        attach_quantizers_(model, header.scheme)
    unknown = sorted(set(header.architecture.widths) - {group.name for group in model.prune_groups()})
    if unknown:
        raise CorruptFile(f"packed file: the network has no prunable channels {unknown[0]!r}")
    layers = list(units(model).values())
    channels = [unit.layer.weight.shape[0] for unit in layers]
    expected = {
        "codes": sum(_code_bytes(unit) for unit in layers),
        "multipliers": sum(channels),
        "biases": sum(channels),
        "references": len(layers),
        "steps": len(activation_quantizers(model)),
    }
    for name, length in expected.items():
        if tensors[name].shape != (length,):
            raise CorruptFile(f"packed file: {name} has shape {tensors[name].shape}, the network needs ({length},)")
        if DTYPES[name].kind == "f" and not np.isfinite(tensors[name]).all():
            raise CorruptFile(f"packed file: {name} holds NaN or infinite values")
    ends = np.cumsum(channels)[:-1]
    return PackedModel(
        header=header,
        codes=_unpacked_codes(layers, tensors["codes"]),
        multipliers=np.split(tensors["multipliers"], ends),
        biases=np.split(tensors["biases"], ends),
        references=np.split(tensors["references"], len(layers)),
        steps=tensors["steps"],
    )


def size_breakdown(content: bytes) -> dict[str, int]:
    """Bytes by part of a packed file; they sum to its length.

    Raises:
        CorruptFile: as in `unpack`.
    """
    _, tensors = _read(content)
    parts = {name: tensors[name].nbytes for name in DTYPES}
    return {**parts, "header": len(content) - sum(parts.values())}


def _packed_codes(unit: Unit) -> np.ndarray:
    quantizer = weight_quantizer(unit)
    codes = quantizer.codes(unit.layer.weight.detach().contiguous()).cpu().numpy()
    return pack_bits(codes + quantizer.qp, quantizer.bits)


def _code_bytes(unit: Unit) -> int:
    return packed_bytes(unit.layer.weight.numel(), weight_quantizer(unit).bits)


def _unpacked_codes(layers: Sequence[Unit], stream: np.ndarray) -> list[np.ndarray]:
    arrays, start = [], 0
    for unit in layers:
        quantizer, weight = weight_quantizer(unit), unit.layer.weight
        end = start + _code_bytes(unit)
        codes = unpack_bits(stream[start:end], quantizer.bits, weight.numel()).astype(np.int16) - quantizer.qp
        if codes.size and codes.max() > quantizer.qp:
            raise CorruptFile(f"packed file: a code lies outside ±{quantizer.qp}")
        arrays.append(codes.astype(np.int8).reshape(tuple(weight.shape)))
        start = end
    return arrays


def _checksum(content: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in DTYPES:
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _read(content: bytes) -> tuple[Header, dict[str, np.ndarray]]:
    try:
        (length,) = struct.unpack("<Q", content[:8])
        if length > min(MAX_HEADER_BYTES, len(content) - 8):
            raise CorruptFile(f"packed file: a header of {length:,} bytes in a file of {len(content):,}")
        spec = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY])
        checksum = spec.pop("sha256")
        if (spec["format"], spec["version"]) != (FORMAT, VERSION):
            raise CorruptFile(
                f"packed file: format {spec['format']!r} version {spec['version']!r}, not {FORMAT} {VERSION}"
            )
        tensors = load(content)
        if {name: t.dtype for name, t in tensors.items()} != DTYPES:
            raise CorruptFile("packed file: other tensors than the format has")
        if checksum != _checksum(spec, tensors):
            raise CorruptFile("packed file: the checksum does not match the content")
        return Header.model_validate(spec), tensors
    except (struct.error, SafetensorError, ValidationError, ConfigError) as err:
        raise CorruptFile(f"not a packed file: {str(err).splitlines()[0]}") from err
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise CorruptFile("not a packed file: its header does not have the format's fields") from err
