"""The stage cache: equal work is done once, also when two trials need it at the same moment.

A finished stage is a folder named by its key; it appears whole or not at all. A stage that fails for a
reason that will not change leaves a folder too, so that the failure is remembered.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import CorruptFile, TrialFailure
from trainables.results import StageRun, kept_metrics
from trainables.stages.files import StageEntry, failed_files, finished_files, read_entries, read_stage, unfinished
from trainables.stages.markers import FAILED, FINISHED, MARKERS
from trainables.stages.saved_epochs import Progress
from trainables.stages.stage import StageResult
from trainables.storage import (
    Lock,
    StoragePath,
    append_line,
    is_published,
    move,
    publish_folder,
    published,
    remove_folder,
    remove_tree,
    subfolders,
)


@dataclass(frozen=True)
class StageCache:
    """Results of stages under one folder, shared by all workers of an experiment."""

    folder: StoragePath
    poll_s: float = 0.2
    """Between two looks at a stage that another worker makes; five times that where a look is a request."""

    def get_or_run(self, key: str, kind: str, run: Callable[[Progress], StageResult]) -> tuple[StageResult, StageRun]:
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
                return found, _noted(found, kind, key, started, cached=True)
            if lock.try_acquire():
                break
            time.sleep(self.poll_s * (1 if isinstance(self.folder, Path) else 5))
        try:
            found = self._find(key, clear=True)  # published between the look and the lock
            cached = found is not None
            result = found if found is not None else self._run(key, kind, run)
        finally:
            lock.release()
        return result, _noted(result, kind, key, started, cached=cached)

    def entries(self) -> list[StageEntry]:
        """Every finished stage and remembered failure, by key. One whose description is damaged is left out.

        Raises:
            StorageUnavailable: the folder cannot be listed.
        """
        return read_entries(self.folder)

    def remove(self, key: str) -> None:
        """Forgets a stage: it disappears whole, and is made again when a trial needs it. An absent one is fine.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        read_stage.cache_clear()
        remove_folder(self.folder / key, markers=MARKERS)

    def sweep(self, *, older_than_s: float) -> None:
        """Removes what makers of stages left that were killed at the end.

        That is uploads to an object store that were cut off so long ago, and checkpoints of finished stages.

        Raises:
            StorageUnavailable: the folder cannot be read or written.
        """
        for key in unfinished(self.folder, older_than_s=older_than_s):
            remove_folder(self.folder / key, markers=MARKERS)
        keys = subfolders(self.folder / "progress")
        for stage in published((self.folder / key for key in keys), MARKERS):
            remove_tree(self.folder / "progress" / stage.name)

    def _run(self, key: str, kind: str, run: Callable[[Progress], StageResult]) -> StageResult:
        started = time.perf_counter()
        progress = Progress(self.folder / "progress" / key)
        self._log("start", key, kind)
        try:
            result = run(progress)
        except TrialFailure as err:
            if err.state == "invalid":  # it would end the same way again
                publish_folder(failed_files(err, kind=kind), self.folder / key, marker=FAILED)
                progress.clear()
            self._log("fail", key, kind)
            raise
        files = finished_files(result, kind=kind, seconds=time.perf_counter() - started)
        publish_folder(files, self.folder / key, marker=FINISHED)
        progress.clear()
        self._log("finish", key, kind)
        # Read back: what later trials will get is what this one gets, to the last bit.
        return read_stage(self.folder / key)

    def _find(self, key: str, *, clear: bool = False) -> StageResult | None:
        """A published stage, or None when it has to be made; `clear` puts a damaged one aside, under the lock."""
        folder = self.folder / key
        if not is_published(folder, MARKERS):
            return None
        try:
            return read_stage(folder)
        except CorruptFile:
            read_stage.cache_clear()
            if clear:
                move(folder, self.folder / "quarantine" / f"{key}-{time.time_ns()}", markers=MARKERS)
            return None

    def _log(self, event: str, key: str, kind: str) -> None:
        append_line(self.folder / "log.jsonl", {"event": event, "key": key, "kind": kind, "time": time.time()})


def _noted(result: StageResult, kind: str, key: str, started: float, *, cached: bool) -> StageRun:
    seconds = time.perf_counter() - started
    return StageRun(kind=kind, key=key, seconds=seconds, cached=cached, metrics=kept_metrics(kind, result.metrics))
