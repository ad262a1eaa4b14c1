"""Pulse: what a running trial says of itself to the driver, in a file of its own. A hint; the ledger is the truth."""

import functools
import os
from collections.abc import Sequence

import psutil
from pydantic import ValidationError

from trainables.config import Frozen
from trainables.storage import read_many, remove, remove_tree, replace_json
from trainables.storage.processes import started_s
from tune_app.ledger.folder import ExperimentFolder


class Pulse(Frozen):
    """Where a trial runs, and whether its memory was not enough."""

    node_id: str
    pid: int
    started: float
    """Of the process, seconds after boot: a number alone may name another process later."""
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


def read_pulses(folder: ExperimentFolder, trial_ids: Sequence[str]) -> dict[str, Pulse]:
    """What trials said last, by id; those that said nothing are left out, and so are damaged files.

    Raises:
        StorageUnavailable: the folder cannot be read.
    """
    contents = read_many(folder.pulse(trial_id) for trial_id in trial_ids)
    found = {trial_id: _decode(content) for trial_id, content in zip(trial_ids, contents, strict=True)}
    return {trial_id: pulse for trial_id, pulse in found.items() if pulse is not None}


def end_pulse(folder: ExperimentFolder, trial_id: str) -> None:
    """The trial has its record: there is nothing more to say.

    Raises:
        StorageUnavailable: the file cannot be removed.
    """
    remove(folder.pulse(trial_id))


def take_pulse(folder: ExperimentFolder, trial_id: str) -> Pulse | None:
    """What a trial said last; the next trial of this name starts from nothing."""
    found = read_pulses(folder, [trial_id]).get(trial_id)
    if found is not None:
        remove(folder.pulse(trial_id))
    return found


def forget_pulses(folder: ExperimentFolder) -> None:
    """Nothing runs yet: what is there, trials of an earlier driver said."""
    remove_tree(folder.pulses)


@functools.cache
def _own_start() -> float:
    return started_s(psutil.Process())


def end_process(pulse: Pulse) -> bool:
    """Kills the process of a trial, on its own machine; False when it is gone already."""
    try:
        process = psutil.Process(pulse.pid)
        if started_s(process) != pulse.started:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _decode(content: bytes | OSError) -> Pulse | None:
    try:
        return None if isinstance(content, OSError) else Pulse.model_validate_json(content)
    except ValidationError:
        return None
