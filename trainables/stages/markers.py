"""What files and folders of a cache say about its stages without being read (torch-free)."""

from collections.abc import Iterable
from typing import NamedTuple

from trainables.storage import StoragePath, names, published

FINISHED, FAILED = "stage.json", "failure.json"
"""The file that describes a finished stage, and the one that remembers a failure."""
MARKERS = (FINISHED, FAILED)
"""The names of files one of which each published stage has."""


class StageState(NamedTuple):
    """What is seen of a stage: whether it has ended, and the names of the epochs that are saved of it."""

    finished: bool
    epochs: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether it has ended an epoch, and not yet all of them."""
        return bool(self.epochs) and not self.finished


def stage_states(stages: StoragePath, keys: Iterable[str]) -> dict[str, StageState]:
    """Returns for each stage's key a value that changes with each of its epochs and with its end.

    All are looked at together: in an object store that takes a few requests at a time, however many there are.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    asked = list(dict.fromkeys(keys))
    finished = set(published([stages / key for key in asked], MARKERS))
    # A stage may train in several phases, each with a folder of its own.
    epochs = [name for depth in ("*", "*/*") for name in names(stages / "progress", f"{depth}/epoch-*")]
    return {
        key: StageState(stages / key in finished, tuple(name for name in epochs if name.startswith(f"{key}/")))
        for key in asked
    }
