"""Curves: the epochs of a trial, read from its stages' descriptions and from the checkpoints of those in progress.

No weights are read: a description lies beside them, and a checkpoint's history is in the head of its file.
"""

import functools
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from trainables.config import digest, stage_keys, training_of
from trainables.errors import TrialFailure
from trainables.stage_signs import FINISHED
from trainables.storage import StoragePath, names, read_bytes, read_start
from tune_app.baseline import read_baseline
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.ledger import Assignment
from tune_app.tracking.protocol import Epoch

HEAD_BYTES = 256 * 1024
"""The head of nearly every checkpoint is shorter."""
MOST_HEAD_BYTES = 100_000_000
"""No longer one is a checkpoint's: safetensors' own limit."""
KEPT = 2048
"""Histories in memory."""
Row = Mapping[str, Any]
Started = Mapping[str, Sequence[StoragePath]]
"""By stage in progress its newest checkpoints, those of earlier training runs inside the stage first."""


class Curves:
    """The epochs of an experiment's trials."""

    def __init__(self, folder: ExperimentFolder, spec: ExperimentSpec) -> None:
        self._folder, self._spec = folder, spec
        self._fingerprint: str | None = None

    def of(self, work: Assignment, started: Started) -> list[Epoch]:
        """What is known of a trial's epochs now; a stage that is gone leaves a gap of its planned epochs.

        Raises:
            StorageUnavailable: a file cannot be read.
        """
        epochs: list[Epoch] = []
        before = 0
        for kind, key, planned in self._stages(work):
            rows = _finished(self._folder.stages / key)
            if rows is None:
                rows = [row for path in started.get(key, ()) for row in _saved_or_none(path)]
                before_next = before + max(planned, len(rows))
            else:
                before_next = before + len(rows)
            epochs += [_epoch(kind, row, before=before, number=i) for i, row in enumerate(rows, 1)]
            before = before_next
        return epochs

    def started(self) -> Started:
        """The stages that train now, or trained when the search stopped.

        Raises:
            StorageUnavailable: the folder cannot be listed.
        """
        place = self._folder.stages / "progress"
        runs: dict[str, dict[str, str]] = defaultdict(dict)
        for depth in ("*/*", "*"):  # a training run inside a stage comes before the stage's last one
            for name in names(place, f"{depth}/epoch-*.safetensors"):
                folder, _, file = name.rpartition("/")
                if re.fullmatch(r"epoch-\d+-[0-9a-f]{64}\.safetensors", file):
                    runs[folder.partition("/")[0]][folder] = name  # the last one is the newest
        return {key: [place / name for name in found.values()] for key, found in runs.items()}

    def _stages(self, work: Assignment) -> list[tuple[str, str, int]]:
        """Kind, key and planned epochs of each stage; nothing before the baseline is known."""
        if self._fingerprint is None:
            baseline = read_baseline(self._folder)
            self._fingerprint = None if baseline is None else baseline.fingerprint
        if self._fingerprint is None or work.rung not in self._spec.rungs:
            return []
        try:
            config = self._spec.trial(work.params, work.rung, repeat=work.repeat)
        except TrialFailure:
            return []
        keys = stage_keys(config, fingerprint=self._fingerprint)
        trainings = [training_of(stage) for stage in config.stages()]
        planned = [0 if training is None else training.epochs for training in trainings]
        return [(stage.kind, key, n) for stage, key, n in zip(config.stages(), keys, planned, strict=True)]


def _epoch(kind: str, row: Row, *, before: int, number: int) -> Epoch:
    """A row of a stage's history; the row's own count starts anew with each training run inside the stage."""
    shown = {name: float(v) for name, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
    values = {f"{kind}/{name}": value for name, value in shown.items() if name != "epoch"}
    return Epoch(before + number, {f"{kind}/epoch": float(number), **values})


def _finished(folder: StoragePath) -> list[Row] | None:
    """The history of a finished stage; None: it is not finished, failed, or was removed."""
    try:
        return _read_history(folder / FINISHED)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _saved_or_none(path: StoragePath) -> list[Row]:
    try:
        return _read_saved(path)
    except (OSError, ValueError, KeyError, TypeError):  # the next epoch took its place
        return []


@functools.lru_cache(maxsize=KEPT)
def _read_history(path: StoragePath) -> list[Row]:
    """Of a finished stage, which never changes."""
    about: dict[str, Any] = json.loads(read_bytes(path))
    if about.pop("sha256") != digest(about):
        raise ValueError("the description is not what was written")
    history: list[Row] = about["history"]
    return history


@functools.lru_cache(maxsize=KEPT)
def _read_saved(path: StoragePath) -> list[Row]:
    """Of a checkpoint, whose name changes with its content (safetensors: a length, a JSON header, the tensors)."""
    head = read_start(path, HEAD_BYTES)
    length = 8 + int.from_bytes(head[:8], "little")
    if length > MOST_HEAD_BYTES:
        raise ValueError(f"a head of {length:,} bytes")
    if length > len(head):
        head = read_start(path, length)
    history: list[Row] = json.loads(json.loads(head[8:length])["__metadata__"]["history"])
    return history
