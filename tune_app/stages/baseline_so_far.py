"""How far a baseline is that trains, which may take hours before the first trial."""

from dataclasses import dataclass

from trainables.storage import names
from tune_app.ledger.baseline import read_begun_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.histories import finished_history, saved_history
from tune_app.terminal.quantities import show_count, show_share


@dataclass(frozen=True)
class BaselineSoFar:
    """A baseline in training."""

    epochs: int
    """Epochs that are done and saved."""
    planned_epochs: int
    accuracy: float | None
    """Fraction right on the validation images after the last of them; None before the first."""
    threads: int
    cores: int
    """Cores of the machine where it began."""

    def text(self) -> str:
        """Returns how far it is and how accurate: `5 of 16 epochs, accuracy 77.1 %`."""
        accuracy = "" if self.accuracy is None else f", accuracy {show_share(self.accuracy)}"
        return f"{self.epochs} of {show_count(self.planned_epochs, 'epoch')}{accuracy}"

    def threads_text(self) -> str:
        """Returns what it computes with: `1 thread on 2 cores`."""
        return f"{show_count(self.threads, 'thread')} on {show_count(self.cores, 'core')}"

    def hint(self) -> str:
        """Returns how it would have all cores of its machine, as the end of a sentence; empty where it has them."""
        if self.threads >= self.cores:
            return ""
        way = f"`resources: {{baseline_cpu: {self.cores}}}` takes all"
        return f" ({self.threads_text()}, since not all were free when it began: {way})"


def baseline_so_far(folder: ExperimentFolder, spec: ExperimentSpec) -> BaselineSoFar | None:
    """Returns how far a baseline is that began; None before, without epochs, and where an older version began it.

    Raises:
        CorruptFile: the note of its beginning is not what was written.
        StorageUnavailable: a folder cannot be read.
    """
    begun, planned = read_begun_baseline(folder), spec.base.baseline.planned_epochs
    if begun is None or not begun.key or not planned:
        return None
    saved = folder.stages / "progress" / begun.key
    newest = max(names(saved, "epoch-*.safetensors"), default=None)
    history = (finished_history(folder.stages / begun.key) or []) if newest is None else saved_history(saved / newest)
    accuracy = history[-1]["val_accuracy"] if history else None
    threads = spec.resources.baseline_cpu or begun.threads
    return BaselineSoFar(len(history), planned, accuracy, threads, begun.cores)
