"""Packed files of small networks, taken apart and put together again; shared by the tests of the format."""

import copy
import functools
import hashlib
import json
import re
import struct
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from tests.trainables.factories import make_architecture, make_quantized
from trainables.config import QuantScheme
from trainables.export.coders.coder import Choice
from trainables.export.packed import Header, PackedModel, pack
from trainables.models.model import Model
from trainables.quant.fold import round_side_info_

ZEROS = "0" * 64


def packed(name: str = "mobilenet_v2", seed: int = 0, *, coder: Choice = "auto", **scheme: Any) -> tuple[Model, bytes]:
    """A rounded network, which a test may change, and its file; made once for all tests that ask for the same."""
    model, file = _packed(name, seed, coder, json.dumps(scheme))
    return copy.deepcopy(model), file


@functools.lru_cache(maxsize=64)
def _packed(name: str, seed: int, coder: Choice, scheme_json: str) -> tuple[Model, bytes]:
    return freshly_packed(name, seed, coder=coder, **json.loads(scheme_json))


def freshly_packed(name: str, seed: int = 0, *, coder: Choice = "auto", **scheme: Any) -> tuple[Model, bytes]:
    """A rounded network and its file, made anew."""
    model = make_quantized(name, seed, **scheme)
    round_side_info_(model, side_bits=scheme.get("side_bits", 16))
    return model, pack(model, make_header(name, **scheme), coder=coder)


def make_header(name: str = "mobilenet_v2", **scheme: Any) -> Header:
    """The header of `make_quantized(name, **scheme)`."""
    return Header(architecture=make_architecture(name), scheme=QuantScheme(**scheme), mean=(0.5,), std=(0.3,))


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The specification and the arrays of a file."""
    return json.loads(json.loads(content[8 : header_end(content)])["__metadata__"]["tune_app"]), load(content)


def forged(spec: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """A file with a right checksum, whatever it says."""
    return sealed({**{name: value for name, value in spec.items() if name != "sha256"}, "sha256": ZEROS}, arrays)


def sealed(spec: object, arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes, with the last 64 zeros of the header replaced by the checksum of all."""
    file: bytes = save(arrays, metadata={"tune_app": json.dumps(spec, separators=(",", ":"))})
    place = file.rfind(ZEROS.encode(), 0, header_end(file))
    digest = hashlib.sha256(file).hexdigest().encode()
    return file if place < 0 else file[:place] + digest + file[place + 64 :]


def header_end(content: bytes) -> int:
    """Where the arrays start."""
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def same(a: PackedModel, b: PackedModel) -> bool:
    """Whether two files describe the same network."""
    pairs = zip(_arrays(a), _arrays(b), strict=True)
    return a.header == b.header and all(np.array_equal(x, y) for x, y in pairs)


def _arrays(packed: PackedModel) -> list[np.ndarray]:
    """All numbers of a decoded file."""
    side = [tensor for info in packed.side_info for tensor in (info.reference, info.multiplier, info.bias)]
    return [*packed.codes, *(tensor.numpy() for tensor in side), packed.steps]


def resealed(file: bytes) -> bytes:
    """An altered file whose checksum is right again, as far as its header still has one."""
    end = min(len(file), header_end(file))
    found = re.search(rb'sha256\\":\\"([0-9a-f]{64})\\"}', file[:end])
    if found is None:
        return file
    start, stop = found.span(1)
    blank = file[:start] + ZEROS.encode() + file[stop:]
    return file[:start] + hashlib.sha256(blank).hexdigest().encode() + file[stop:]
