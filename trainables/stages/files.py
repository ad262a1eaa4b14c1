"""A finished stage as files: its weights, and a description that is sealed by a checksum; or why it failed.

What reads a folder raises StorageUnavailable where that cannot be listed or read.
"""

import functools
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

import trainables.errors as errors
from trainables.config import Architecture, QuantScheme, digest, sealed_mapping
from trainables.errors import CorruptFile, NotFinite, TrialFailure
from trainables.stages.markers import FAILED, FINISHED
from trainables.stages.stage import StageResult, on_cpu
from trainables.storage import FileInfo, StoragePath, files_by_folder, read_bytes, read_many, sha256

SCHEMA = 1
"""The version of the description's form."""
KEY = re.compile("[0-9a-f]{64}")
"""The name of a stage's folder; others in the cache hold locks, saved epochs and what was damaged."""
WEIGHTS = "weights.safetensors"
"""The file of a stage's tensors."""
LOADED = 16
"""Stage results that a worker keeps in memory, since parents are shared by many trials. More: memory, a network's
weights each; fewer: a parent is read from disk and checked again."""


@dataclass(frozen=True)
class StageEntry:
    """What a cache says of one stage without reading its weights; `failed` for a remembered failure."""

    key: str
    kind: str
    seconds: float
    """How long it took to make the stage; 0.0 for a remembered failure."""
    size_bytes: int
    failed: bool
    modified: float
    """When the stage was made, in seconds since 1970 by the clock of the file system."""


def finished_files(result: StageResult, *, kind: str, seconds: float) -> dict[str, bytes]:
    """Returns the files that `read_stage` reads, by name; the stage took `seconds`.

    Raises:
        NotFinite: a metric, or a number of the history, is NaN or infinite.
    """
    rows = {"": result.metrics, **{f" of row {n}": row for n, row in enumerate(result.history, 1)}}
    for where, numbers in rows.items():
        for name, value in numbers.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise NotFinite(f"{name}{where} is {value}; what a stage measures must be finite numbers")
    weights = save(on_cpu(result.state))
    about = {
        "schema": SCHEMA,
        "kind": kind,
        "architecture": result.architecture.model_dump(mode="json"),
        "scheme": result.scheme and result.scheme.model_dump(mode="json"),
        "metrics": dict(result.metrics),
        "history": result.history,
        "plan": {name: list(kept) for name, kept in result.plan.items()},
        "seconds": seconds,
        "weights_sha256": sha256(weights),
    }
    return {WEIGHTS: weights, FINISHED: sealed_mapping(about)}


def failed_files(err: TrialFailure, *, kind: str) -> dict[str, bytes]:
    """Returns the file, by name, that remembers a failure."""
    return {FAILED: sealed_mapping({"schema": SCHEMA, "stage": kind, "kind": type(err).__name__, "message": str(err)})}


@functools.lru_cache(maxsize=LOADED)
def read_stage(folder: StoragePath) -> StageResult:
    """Reads a published stage and verifies it.

    Raises:
        CorruptFile: a file is missing or not what was written.
        StorageUnavailable: a file cannot be read.
        TrialFailure: the stage is known to fail.
    """
    try:
        failed, finished = read_many(folder / name for name in (FAILED, FINISHED))
        if isinstance(failed, bytes):
            failure = _unsealed(failed)
            name = failure["kind"]  # one that the error tree does not know is a plug-in's
            kind = getattr(errors, name, None) or type(name, (TrialFailure,), {"state": "invalid"})
            known: TrialFailure = kind(failure["message"])
            known.remembered = True
            raise known
        about = _unsealed(finished)
        weights = read_bytes(folder / WEIGHTS)
        if sha256(weights) != about["weights_sha256"]:
            raise CorruptFile(f"{folder}: the weights are not those that were written")
        architecture, scheme = Architecture.model_validate(about["architecture"]), about["scheme"]
        scheme = None if scheme is None else QuantScheme.model_validate(scheme)
        return StageResult(architecture, scheme, load(weights), about["metrics"], about["history"], about["plan"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, AttributeError) as err:
        raise CorruptFile(f"{folder} is no finished stage: {err}") from err


def read_entries(folder: StoragePath) -> list[StageEntry]:
    """Reads the descriptions of the stages in a folder, by key; a stage with a damaged one is left out."""
    stages = _files(folder)
    marked = {key: marker for key, files in stages.items() if (marker := _marker(files)) is not None}
    contents = read_many(folder / key / marker.name for key, marker in marked.items())
    pairs = zip(marked.items(), contents, strict=True)
    entries = (_entry(key, marker, stages[key], content) for (key, marker), content in pairs)
    return [entry for entry in entries if entry is not None]


def unfinished(folder: StoragePath, *, older_than_s: float) -> list[str]:
    """Returns the keys of stages that were cut off: with files but no description, and nothing written for so long."""
    newest = time.time() - older_than_s
    return [
        key
        for key, files in _files(folder).items()
        if files and _marker(files) is None and all(file.modified <= newest for file in files)
    ]


def _files(folder: StoragePath) -> dict[str, list[FileInfo]]:
    """Lists the files of each stage in a folder, by key."""
    found = files_by_folder(folder)
    return {key: files for key, files in sorted(found.items()) if KEY.fullmatch(key)}


def _marker(files: Sequence[FileInfo]) -> FileInfo | None:
    """Returns the file that describes a stage; the memory of a failure comes first, as in `read_stage`."""
    by_name = {file.name: file for file in files}
    return by_name.get(FAILED) or by_name.get(FINISHED)


def _entry(key: str, marker: FileInfo, files: Sequence[FileInfo], content: bytes | OSError) -> StageEntry | None:
    """Reads a stage's description; None when it is damaged or was removed meanwhile."""
    failed = marker.name == FAILED
    try:
        about = _unsealed(content)
        return StageEntry(
            key=key,
            # Memories of failures that are older than this field do not name their stage.
            kind=str(about.get("stage", "unknown") if failed else about["kind"]),
            seconds=0.0 if failed else float(about["seconds"]),
            size_bytes=sum(file.size_bytes for file in files),
            failed=failed,
            modified=marker.modified,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _unsealed(content: bytes | OSError) -> dict[str, Any]:
    if isinstance(content, OSError):
        raise content
    body: dict[str, Any] = json.loads(content)
    if body.pop("sha256") != digest(body):
        raise ValueError("the description is not what was written")
    return body
