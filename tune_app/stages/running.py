"""What a search runs now, and how far that is: a trial of a large network takes minutes or hours."""

import contextlib
from dataclasses import dataclass

from trainables.config import StageConfig
from trainables.errors import TuneAppError
from trainables.stages.markers import MARKERS
from trainables.storage import names, published
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.epochs import saved_epochs, stages_by_key
from tune_app.terminal.quantities import show_count


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs, at its first stage that is not finished."""

    label: str
    stage: str
    """The kind of that stage; empty: all are, and the trial is packed and measured."""
    epochs: int
    """Epochs of that stage that are done and saved."""
    planned_epochs: int

    def text(self) -> str:
        """Returns how far it is: `p30_w4_a8 in sparsify, 1 of 4 epochs`."""
        of = f", {self.epochs} of {show_count(self.planned_epochs, 'epoch')}" if self.planned_epochs else ""
        return f"{self.label} in {self.stage}{of}" if self.stage else f"{self.label} measured"


def running_trials(folder: ExperimentFolder, spec: ExperimentSpec, fingerprint: str) -> list[RunningTrial]:
    """Returns what the driver of an experiment runs, as far as it is known; nothing where no driver is alive.

    Raises:
        StorageUnavailable: a folder cannot be read.
    """
    lease = Lease(folder)
    if not lease.is_taken:
        return []
    heard = {name.removesuffix(".json") for name in names(folder.heartbeats, "*.json")}  # on Ray, once a worker began
    needs: list[tuple[Assignment, dict[str, StageConfig]]] = []
    for one in lease.in_flight():
        if not heard or one.trial_id in heard:
            with contextlib.suppress(TuneAppError):  # what an interrupted run of another spec left
                config = spec.trial(one.params, one.rung, repeat=one.repeat)
                needs.append((one, stages_by_key(config, fingerprint=fingerprint)))
    keys = dict.fromkeys(key for _, stages in needs for key in stages)
    finished = {path.name for path in published([folder.stages / key for key in keys], MARKERS)}
    saved = saved_epochs(folder.stages)
    found = []
    for one, stages in needs:
        left = [(key, stage) for key, stage in stages.items() if key not in finished]
        key, stage = left[0] if left else ("", None)
        planned = stage.planned_epochs if stage else 0
        done = min(planned, saved.get(key, 0))
        found.append(RunningTrial(one.label, stage.kind if stage else "", done, planned))
    return found
