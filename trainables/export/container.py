"""The container of a packed file: safetensors with one metadata string, a JSON object, and a checksum over all.

The checksum is the SHA-256 of the whole file in which the checksum itself reads as 64 zeros.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from trainables.errors import CorruptFile

FORMAT, VERSION = "mbq", 2
WITH_GRAPH = 3
"""The version of files that bring the graph of their network along; those of network families do not need it."""
KEY = "tune_app"
UNSEALED = "0" * 64
MAX_HEADER_BYTES = 1 << 20
"""Bytes of a header that are read at most; larger: room for deeper networks, smaller: less memory for a bad file."""


def write(content: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, version: int = VERSION) -> bytes:
    """Returns the file of a JSON object and named arrays; equal arguments give equal bytes."""
    spec = {"format": FORMAT, "version": version, **content, "sha256": UNSEALED}
    file: bytes = save(dict(tensors), metadata={KEY: json.dumps(spec, separators=(",", ":"), allow_nan=False)})
    return _exchanged(file, UNSEALED, hashlib.sha256(file).hexdigest())


def read(file: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the JSON object and the arrays of a file that `write` made.

    Raises:
        CorruptFile: truncated, altered, of another version, or no packed file at all.
    """
    try:
        spec = _metadata(file)
        form, version, digest = spec.pop("format"), spec.pop("version"), spec.pop("sha256")
        if form != FORMAT or type(version) is not int or version not in (VERSION, WITH_GRAPH):
            raise CorruptFile(
                f"packed file: format {form!r} version {version!r}, not {FORMAT} {VERSION} or {WITH_GRAPH}"
            )
        if hashlib.sha256(_exchanged(file, digest, UNSEALED)).hexdigest() != digest:
            raise CorruptFile("packed file: the checksum does not match the content")
        return spec, load(file)
    except SafetensorError as err:
        raise CorruptFile(f"not a packed file: {str(err).splitlines()[0]}") from err
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as err:
        raise CorruptFile("not a packed file: its header does not have the format's fields") from err


def has_graph(file: bytes) -> bool:
    """Whether a file is of the version that brings the graph of its network along."""
    return bool(_metadata(file)["version"] == WITH_GRAPH)


def header_bytes(file: bytes) -> int:
    """Returns the length of everything before the arrays."""
    return 8 + int(struct.unpack("<Q", file[:8])[0])


def _metadata(file: bytes) -> dict[str, Any]:
    """Reads the JSON object without looking at the arrays."""
    if file[8:9] not in (b"", b"{"):
        raise CorruptFile("not a packed file: it does not begin like one")
    (length,) = struct.unpack("<Q", file[:8])
    if length > min(MAX_HEADER_BYTES, len(file) - 8):
        raise CorruptFile(f"packed file: it is cut off, or damaged in its header ({len(file):,} bytes are left)")
    return dict(json.loads(json.loads(file[8 : 8 + length])["__metadata__"][KEY]).items())


def _exchanged(file: bytes, old: str, new: str) -> bytes:
    """Returns the file with another checksum, which is the last field of the header."""
    place = file.rindex(old.encode(), 0, header_bytes(file))
    return file[:place] + new.encode() + file[place + len(old) :]
