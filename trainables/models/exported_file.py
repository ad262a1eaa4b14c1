"""The weights in an archive of torch.export.save (.pt2): raw bytes with an index in JSON.

torch's own loader unpickles the sample inputs beside them, so the archive is read here.
"""

import io
import json
import math
import zipfile
from typing import Any

import torch
from torch import Tensor

from trainables.errors import ConfigError

SUFFIX = ".pt2"
"""The suffix of such archives."""
INDEX = "data/weights/model_weights_config.json"
"""The index of the weights, inside the archive's folder."""
DTYPES = {4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64, 13: torch.bfloat16}
"""Types by the numbers that torch's export schema has for them."""


def read_exported(content: bytes, source: str, way_out: str) -> dict[str, Tensor]:
    """Returns parameters and buffers by name; the messages of refusals end in `way_out`.

    Raises:
        ConfigError: the bytes are no such archive, a tensor in it is pickled, or of a type or layout that no network
            here holds.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            index = next((name for name in archive.namelist() if name.endswith(INDEX)), "")
            if not index:
                raise ValueError("it has no weights")
            found = json.loads(_part(archive, index, len(content)))["config"]
            folder = index.rpartition("/")[0]
            return {
                str(name): _tensor(_part(archive, f"{folder}/{entry['path_name']}", len(content)), name, entry)
                for name, entry in found.items()
            }
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as err:
        raise ConfigError(f"{source} is no archive of plain weights ({err}): {way_out}.") from err


def _part(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Reads a file of the archive; weights are stored as they are, so none is larger than the archive."""
    if archive.getinfo(name).file_size > limit:
        raise ValueError(f"{name} unfolds to more than the archive")
    return archive.read(name)


def _tensor(content: bytes, name: str, entry: dict[str, Any]) -> Tensor:
    meta = entry["tensor_meta"]
    dtype, shape = DTYPES.get(meta["dtype"]), [int(size["as_int"]) for size in meta["sizes"]]
    strides = [int(stride["as_int"]) for stride in meta["strides"]]
    if entry["use_pickle"] or dtype is None:
        raise ValueError(f"{name} is pickled, or has no floating-point type")
    if strides != [math.prod(shape[place + 1 :]) for place in range(len(shape))]:
        raise ValueError(f"{name} does not lie row by row")
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {len(content)} bytes, not those of {shape}")
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape) if content else torch.empty(shape)
