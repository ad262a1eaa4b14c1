"""Pulse: what a running trial says of itself to the driver, in a file of its own. A hint; the ledger is the truth."""

import functools
import os

import psutil
from pydantic import ValidationError

from trainables.config import Frozen
from trainables.storage import read_bytes, remove, replace_json
from tune_app.folder import ExperimentFolder

SAME_S = 2.0
"""Two start times of one process differ by less: they are computed from a clock that is corrected meanwhile."""


class Pulse(Frozen):
    """Where a trial runs, and whether its memory was not enough."""

    node_id: str
    pid: int
    started: float
    """Of the process, seconds since the epoch: a number alone may name another process later."""
    out_of_memory: bool = False


def own_pulse(node_id: str, *, out_of_memory: bool = False) -> Pulse:
    """Of this process, on a node of Ray's."""
    return Pulse(node_id=node_id, pid=os.getpid(), started=_own_start(), out_of_memory=out_of_memory)


def write_pulse(folder: ExperimentFolder, trial_id: str, pulse: Pulse) -> None:
    """Says it.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    replace_json(folder.pulse(trial_id), pulse.model_dump(), durable=False)


def read_pulse(folder: ExperimentFolder, trial_id: str) -> Pulse | None:
    """What a trial said last, or None; a damaged file counts as none."""
    try:
        return Pulse.model_validate_json(read_bytes(folder.pulse(trial_id)))
    except (OSError, ValidationError):
        return None


def end_pulse(folder: ExperimentFolder, trial_id: str) -> None:
    """The trial has its record: there is nothing more to say.

    Raises:
        StorageUnavailable: the file cannot be removed.
    """
    remove(folder.pulse(trial_id))


def take_pulse(folder: ExperimentFolder, trial_id: str) -> Pulse | None:
    """What a trial said last; the next trial of this name starts from nothing."""
    found = read_pulse(folder, trial_id)
    if found is not None:
        remove(folder.pulse(trial_id))
    return found


@functools.cache
def _own_start() -> float:
    return float(psutil.Process().create_time())


def end_process(pulse: Pulse) -> bool:
    """Kills the process of a trial, on its own machine; False when it is gone already."""
    try:
        process = psutil.Process(pulse.pid)
        if abs(process.create_time() - pulse.started) > SAME_S:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
