"""History: the epochs of a stage, from its description or, while it trains, from its checkpoint; without weights."""

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainables.config import digest
from trainables.stages.markers import FINISHED
from trainables.storage import StoragePath, read_bytes, read_many, read_start

HEAD_BYTES = 256 * 1024
"""Bytes that are read at first: the head of nearly every checkpoint is shorter."""
MOST_HEAD_BYTES = 100_000_000
"""A longer head is no checkpoint's: safetensors' own limit."""
KEPT = 2048
"""Histories that are kept in memory; more: fewer files to read again, more memory."""
Row = Mapping[str, Any]
History = list[Row]
DAMAGED = (ValueError, TypeError, KeyError, AttributeError)


def finished_histories(stages: StoragePath, keys: Iterable[str]) -> dict[str, History]:
    """Reads the histories of finished stages that have epochs, by key; what is removed, failed or damaged is left out.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    asked = list(dict.fromkeys(keys))
    contents = zip(asked, read_many(stages / key / FINISHED for key in asked), strict=True)
    found = {key: _intact(content) for key, content in contents if not isinstance(content, OSError)}
    return {key: history for key, history in found.items() if history}


def finished_history(stage: StoragePath) -> History | None:
    """Reads the history of a finished stage by its folder, once; None: not finished, failed, damaged or removed.

    Raises:
        StorageUnavailable: the file cannot be read.
    """
    try:
        return _read_finished(stage / FINISHED)
    except (OSError, ValueError):
        return None


def saved_history(checkpoint: StoragePath) -> History:
    """Reads the history of a stage that is at work; empty when the next epoch took the checkpoint's place.

    Raises:
        StorageUnavailable: the file cannot be read.
    """
    try:
        return _read_saved(checkpoint)
    except (OSError, *DAMAGED):
        return []


@functools.lru_cache(maxsize=KEPT)
def _read_finished(path: StoragePath) -> History:
    """Reads a history that never changes; what is not there may come, so that is an error and not kept."""
    history = _intact(read_bytes(path))
    if history is None:
        raise ValueError("the description is not what was written")
    return history


def _intact(content: bytes) -> History | None:
    try:
        about: dict[str, Any] = json.loads(content)
        checksum = about.pop("sha256")
        history: History = [dict(row) for row in about["history"]]
        return history if checksum == digest(about) else None
    except DAMAGED:
        return None


@functools.lru_cache(maxsize=KEPT)
def _read_saved(path: StoragePath) -> History:
    """Reads a checkpoint, whose name changes with its content (safetensors: a length, a JSON header, the tensors)."""
    head = read_start(path, HEAD_BYTES)
    length = 8 + int.from_bytes(head[:8], "little")
    if length > MOST_HEAD_BYTES:
        raise ValueError(f"a head of {length:,} bytes")
    if length > len(head):
        head = read_start(path, length)
    history: History = json.loads(json.loads(head[8:length])["__metadata__"]["history"])
    return history
