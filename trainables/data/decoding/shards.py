"""Shards: decoded images in files that every process of a machine maps into its memory; whole or absent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.data.constants import level_counts
from trainables.errors import StorageUnavailable
from trainables.storage import drafted

COLUMN = "pixels"


@dataclass(frozen=True)
class Shard:
    """Images (N, C, H, W) uint8, read-only, whose pages are read from the file as they are used.

    `errors` says of images that could not be decoded why; their pixels are 0. `counts` (C, 256) int64 holds how many
    pixels of each channel have each value, of the images that could be decoded.
    """

    pixels: np.ndarray
    errors: Mapping[int, str]
    counts: np.ndarray


def write_shard(path: Path, pixels: np.ndarray, errors: Mapping[int, str]) -> None:
    """Writes images (N, C, H, W) uint8 as an Arrow file with one column; without a second copy in memory.

    Raises:
        StorageUnavailable: the file cannot be written.
    """
    about = {
        "shape": list(pixels.shape[1:]),
        "errors": {str(place): text for place, text in errors.items()},
        "counts": level_counts(pixels, missing=len(errors)).tolist(),
    }
    kind = pa.binary(int(np.prod(pixels.shape[1:])))
    column = pa.Array.from_buffers(kind, len(pixels), [None, pa.py_buffer(np.ascontiguousarray(pixels))])
    schema = pa.schema([pa.field(COLUMN, kind)], metadata={"tune-app": json.dumps(about)})
    with drafted(path) as draft, pa.OSFile(str(draft), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))


def read_shard(path: Path) -> Shard:
    """Opens a shard; nothing of its pixels is read yet.

    Raises:
        StorageUnavailable: it is gone, or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        about = json.loads(batch.schema.metadata[b"tune-app"])
        pixels = np.frombuffer(batch.column(0).buffers()[1], np.uint8).reshape(-1, *about["shape"])
    except (OSError, pa.ArrowException, ValueError, KeyError) as err:
        reason = str(err).splitlines()[0]
        raise StorageUnavailable(
            f"cannot read the decoded images in {path}: {reason}. Remove the file and run again: they are made anew."
        ) from err
    errors = {int(place): text for place, text in about["errors"].items()}
    return Shard(pixels, errors, np.array(about["counts"], np.int64))
