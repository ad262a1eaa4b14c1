"""The learning curves of a trial: the epochs of its stages one after another, finished or at work."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from trainables.config import stage_keys
from trainables.errors import TrialFailure
from trainables.storage import StoragePath, names
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.histories import Row, finished_history, saved_history
from tune_app.tracking.protocol import Epoch

Started = Mapping[str, Sequence[StoragePath]]
"""By key of a stage at work its newest checkpoints, those of earlier training runs inside the stage first."""


class Curves:
    """The learning curves of an experiment's trials."""

    def __init__(self, folder: ExperimentFolder, spec: ExperimentSpec) -> None:
        self._folder, self._spec = folder, spec
        self._fingerprint: str | None = None

    def of(self, work: Assignment, started: Started) -> list[Epoch]:
        """Returns what is known of a trial's epochs now; a stage that is gone leaves a gap of its planned epochs.

        Raises:
            StorageUnavailable: a file cannot be read.
        """
        epochs: list[Epoch] = []
        before = 0
        for kind, key, planned in self._stages(work):
            finished = finished_history(self._folder.stages / key)
            saved = [row for path in started.get(key, ()) for row in saved_history(path)] if finished is None else []
            rows = saved if finished is None else finished
            epochs += [_epoch(kind, row, before=before, number=i) for i, row in enumerate(rows, 1)]
            before += max(planned, len(rows)) if finished is None else len(rows)
        return epochs

    def of_baseline(self, key: str) -> list[Epoch]:
        """Returns the epochs of the baseline by its stage's key; none where the stage is gone, or does not train.

        Raises:
            StorageUnavailable: a file cannot be read.
        """
        rows = finished_history(self._folder.stages / key) or []
        kind = self._spec.base.baseline.kind
        return [_epoch(kind, row, before=0, number=i) for i, row in enumerate(rows, 1)]

    def started(self) -> Started:
        """Returns the stages that train now, or trained when the search stopped.

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
        """Returns kind, key and planned epochs of each stage of a trial; nothing before the baseline is known."""
        if self._fingerprint is None:
            baseline = read_baseline(self._folder)
            self._fingerprint = None if baseline is None else baseline.fingerprint
        if self._fingerprint is None:
            return []
        try:
            config = self._spec.trial(work.params, work.rung, repeat=work.repeat)
        except TrialFailure:
            return []
        stages = zip(config.stages(), stage_keys(config, fingerprint=self._fingerprint), strict=True)
        return [(stage.kind, key, stage.training.epochs if stage.training else 0) for stage, key in stages]


def _epoch(kind: str, row: Row, *, before: int, number: int) -> Epoch:
    """Returns a row of a stage's history as an epoch; a row's own count starts anew with each run inside the stage."""
    shown = {name: float(v) for name, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
    values = {f"{kind}/{name}": value for name, value in shown.items() if name != "epoch"}
    return Epoch(before + number, {f"{kind}/epoch": float(number), **values})
