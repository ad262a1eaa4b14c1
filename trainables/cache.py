"""The stage cache: equal work is done once, also when two trials need it at the same moment.

A finished stage is a folder named by its key; it appears whole or not at all. A stage that fails for a
reason that will not change leaves a folder too, so that the failure is remembered.
"""

import contextlib
import functools
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

import trainables.errors as errors
from trainables.config import Architecture, QuantScheme, digest
from trainables.errors import CorruptFile, StorageUnavailable, TrialFailure
from trainables.progress import Progress
from trainables.results import StageCost
from trainables.stage import StageResult, on_cpu
from trainables.storage import DRAFT, Lock, append_line, publish_folder, sha256

SCHEMA = 1
LOADED = 16
"""Stage results that a worker keeps in memory: parents are shared by many trials."""


@dataclass(frozen=True)
class StageEntry:
    """What a cache holds of one stage, without its weights."""

    key: str
    kind: str
    seconds: float
    """What it took when it was made; 0.0 for a remembered failure."""
    size_bytes: int
    failed: bool
    modified: float
    """When it was made, seconds since the epoch by the clock of the file system."""


@dataclass(frozen=True)
class StageCache:
    """Results of stages under one folder, shared by all workers of an experiment."""

    folder: Path
    poll_s: float = 0.2

    def get_or_run(self, key: str, kind: str, run: Callable[[Progress], StageResult]) -> tuple[StageResult, StageCost]:
        """The result of a stage: read when it exists, waited for when another worker makes it, else made here.

        Raises:
            TrialFailure: the stage failed now, or is known to fail.
            StorageUnavailable: the folder cannot be written.
        """
        started = time.perf_counter()
        lock = Lock(self.folder / "locks" / key)
        while True:
            found = self._find(key)
            if found is not None:
                return found, StageCost(kind=kind, key=key, seconds=time.perf_counter() - started, cached=True)
            if lock.try_acquire():
                break
            time.sleep(self.poll_s)
        try:
            found = self._find(key)  # published between the look and the lock
            cached = found is not None
            result = found if found is not None else self._run(key, kind, run)
        finally:
            lock.release()
        return result, StageCost(kind=kind, key=key, seconds=time.perf_counter() - started, cached=cached)

    def entries(self) -> list[StageEntry]:
        """Every finished stage and remembered failure, by key. One whose description is damaged is left out.

        Raises:
            StorageUnavailable: the folder cannot be listed.
        """
        try:
            names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        except OSError as err:
            raise StorageUnavailable(f"cannot list {self.folder}: {err.strerror}.") from err
        found = (_entry(self.folder / name) for name in names if re.fullmatch("[0-9a-f]{64}", name))
        return [entry for entry in found if entry is not None]

    def remove(self, key: str) -> None:
        """Forgets a stage: it disappears whole, and is made again when a trial needs it. An absent one is fine.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        read_stage.cache_clear()
        draft = self.folder / f"{DRAFT}{uuid.uuid4().hex}"
        try:
            (self.folder / key).rename(draft)
        except FileNotFoundError:
            return
        except OSError as err:
            raise StorageUnavailable(f"cannot remove {self.folder / key}: {err.strerror}.") from err
        shutil.rmtree(draft, ignore_errors=True)

    def _run(self, key: str, kind: str, run: Callable[[Progress], StageResult]) -> StageResult:
        started = time.perf_counter()
        progress = Progress(self.folder / "progress" / key)
        self._log("start", key, kind)
        try:
            result = run(progress)
        except TrialFailure as err:
            if err.state == "invalid":  # it would end the same way again
                failure = {"schema": SCHEMA, "stage": kind, "kind": type(err).__name__, "message": str(err)}
                publish_folder({"failure.json": _sealed(failure)}, self.folder / key)
                progress.clear()
            self._log("fail", key, kind)
            raise
        weights = save(on_cpu(result.state))
        about = {
            "schema": SCHEMA,
            "kind": kind,
            "architecture": result.architecture.model_dump(mode="json"),
            "scheme": None if result.scheme is None else result.scheme.model_dump(mode="json"),
            "metrics": dict(result.metrics),
            "history": result.history,
            "plan": {name: list(kept) for name, kept in result.plan.items()},
            "seconds": time.perf_counter() - started,
            "weights_sha256": sha256(weights),
        }
        publish_folder({"weights.safetensors": weights, "stage.json": _sealed(about)}, self.folder / key)
        progress.clear()
        self._log("finish", key, kind)
        # Read back: what later trials will get is what this one gets, to the last bit.
        return read_stage(self.folder / key)

    def _find(self, key: str) -> StageResult | None:
        folder = self.folder / key
        if not folder.is_dir():
            return None
        try:
            return read_stage(folder)
        except CorruptFile:
            # Made again from its parent; the damaged folder is kept aside.
            read_stage.cache_clear()
            target = self.folder / "quarantine" / f"{key}-{time.time_ns()}"
            target.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another worker found it first
                folder.rename(target)
            return None

    def _log(self, event: str, key: str, kind: str) -> None:
        append_line(self.folder / "log.jsonl", {"event": event, "key": key, "kind": kind, "time": time.time()})


@functools.lru_cache(maxsize=LOADED)
def read_stage(folder: Path) -> StageResult:
    """A published stage, verified.

    Raises:
        CorruptFile: a file is missing or not what was written.
        TrialFailure: the stage is known to fail.
    """
    try:
        if (folder / "failure.json").exists():
            failure = _unsealed((folder / "failure.json").read_bytes())
            raise getattr(errors, failure["kind"])(failure["message"])
        about = _unsealed((folder / "stage.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
        if sha256(weights) != about["weights_sha256"]:
            raise CorruptFile(f"{folder}: the weights are not those that were written")
        scheme = about["scheme"]
        return StageResult(
            architecture=Architecture.model_validate(about["architecture"]),
            scheme=None if scheme is None else QuantScheme.model_validate(scheme),
            state=load(weights),
            metrics=about["metrics"],
            history=about["history"],
            plan=about["plan"],
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, AttributeError) as err:
        raise CorruptFile(f"{folder} is no finished stage: {err}") from err


def _entry(folder: Path) -> StageEntry | None:
    """A published stage by its description alone; None when that is missing, damaged or being removed."""
    try:
        failed = (folder / "failure.json").exists()
        path = folder / ("failure.json" if failed else "stage.json")
        about = _unsealed(path.read_bytes())
        return StageEntry(
            key=folder.name,
            # Memories of failures that are older than this field do not name their stage.
            kind=str(about.get("stage", "unknown") if failed else about["kind"]),
            seconds=0.0 if failed else float(about["seconds"]),
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            failed=failed,
            modified=path.stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sealed(body: dict[str, Any]) -> bytes:
    return (json.dumps({**body, "sha256": digest(body)}, indent=1) + "\n").encode()


def _unsealed(content: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(content)
    if body.pop("sha256") != digest(body):
        raise ValueError("the description is not what was written")
    return body
