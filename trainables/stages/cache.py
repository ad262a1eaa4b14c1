"""The stage cache: equal work is done once, also when two trials need it at the same moment.

A finished stage is a folder named by its key; it appears whole or not at all. A stage that fails for a
reason that will not change leaves a folder too, so that the failure is remembered.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainables import storage
from trainables.errors import CorruptFile, TrialFailure
from trainables.results import StageRun, kept_metrics
from trainables.stages.files import KEY, StageEntry, failed_files, finished_files, read_entries, read_stage, unfinished
from trainables.stages.markers import FAILED, FINISHED, MARKERS
from trainables.stages.saved_epochs import SavedEpochs
from trainables.stages.stage import StageResult


@dataclass(frozen=True)
class StageCache:
    """The results of stages under one folder, shared by all workers of an experiment.

    Every method raises StorageUnavailable where the folder cannot be listed, read or written.
    """

    folder: storage.StoragePath
    poll_s: float = 0.2
    """Seconds between two looks at a stage that another worker makes, and five times that where a look is a request
    to an object store. Longer: a trial idles after the stage is there; shorter: more looks while nothing changes."""

    def get_or_run(
        self, key: str, kind: str, run: Callable[[SavedEpochs], StageResult]
    ) -> tuple[StageResult, StageRun]:
        """Returns the result of a stage: read if it exists, waited for if another worker makes it, else made here.

        Raises:
            TrialFailure: the stage failed now, or is known to fail.
        """
        started = time.perf_counter()
        lock = storage.Lock(self.folder / "locks" / key)
        while (found := self._find(key)) is None and not lock.try_acquire():
            time.sleep(self.poll_s * (1 if isinstance(self.folder, Path) else 5))
        result = found
        if result is None:
            try:
                found = self._find(key, clear=True)  # published between the look and the lock
                result = found or self._run(key, kind, run)
            finally:
                lock.release()
        seconds, metrics = time.perf_counter() - started, kept_metrics(kind, result.metrics)
        return result, StageRun(kind=kind, key=key, seconds=seconds, cached=found is not None, metrics=metrics)

    def entries(self) -> list[StageEntry]:
        """Returns every finished stage and remembered failure, by key, without those whose description is damaged."""
        return read_entries(self.folder)

    def keys(self) -> list[str]:
        """Returns the keys of what was published, finished stages and remembered failures, whole or damaged."""
        folders = (self.folder / name for name in storage.subfolders(self.folder) if KEY.fullmatch(name))
        return [folder.name for folder in storage.published(folders, MARKERS)]

    def damage(self, key: str) -> str:
        """Reads a stage, and returns what is wrong with it; empty: nothing, or the stage was removed meanwhile."""
        read_stage.cache_clear()
        try:
            read_stage(self.folder / key)
        except CorruptFile as err:
            return str(err) if storage.is_published(self.folder / key, MARKERS) else ""
        except TrialFailure:
            pass
        return ""

    def remove(self, key: str) -> None:
        """Removes a stage, if it is there: it disappears whole, and is made again when a trial needs it."""
        read_stage.cache_clear()
        storage.remove_folder(self.folder / key, markers=MARKERS)

    def sweep(self, *, older_than_s: float) -> None:
        """Removes what killed makers of stages left: old uploads that were cut off, and epochs of finished stages."""
        for key in unfinished(self.folder, older_than_s=older_than_s):
            storage.remove_folder(self.folder / key, markers=MARKERS)
        ended = {entry.key for entry in self.entries()}  # a folder alone may have been copied in part
        for key in ended.intersection(storage.subfolders(self.folder / "progress")):
            storage.remove_tree(self.folder / "progress" / key)

    def _run(self, key: str, kind: str, run: Callable[[SavedEpochs], StageResult]) -> StageResult:
        """Makes a stage and publishes it, or the memory of a failure that would come again."""
        started = time.perf_counter()
        saved_epochs = SavedEpochs(self.folder / "progress" / key)
        self._log("start", key, kind)
        try:
            result = run(saved_epochs)
            files = finished_files(result, kind=kind, seconds=time.perf_counter() - started)
        except TrialFailure as err:
            if err.state == "invalid":  # it would end the same way again
                storage.publish_folder(failed_files(err, kind=kind), self.folder / key, marker=FAILED)
                saved_epochs.clear()
            self._log("fail", key, kind)
            raise
        first = storage.publish_folder(files, self.folder / key, marker=FINISHED)
        # A process that is killed here leaves a finished stage without its line in the log.
        self._log("finish" if first else "lost", key, kind)  # lost: who had taken over the lock was faster
        saved_epochs.clear()
        # Read back: what later trials will get is what this one gets, to the last bit.
        return read_stage(self.folder / key)

    def _find(self, key: str, *, clear: bool = False) -> StageResult | None:
        """Reads a published stage; None when it must be made. `clear` puts a damaged one aside, under the lock."""
        folder = self.folder / key
        if not storage.is_published(folder, MARKERS):
            return None
        try:
            return read_stage(folder)
        except CorruptFile:
            read_stage.cache_clear()
            if clear:
                storage.move(folder, self.folder / "quarantine" / f"{key}-{time.time_ns()}", markers=MARKERS)
            return None

    def _log(self, event: str, key: str, kind: str) -> None:
        storage.append_line(self.folder / "log.jsonl", {"event": event, "key": key, "kind": kind, "time": time.time()})
