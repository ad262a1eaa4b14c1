"""Heartbeat: what a running trial says of itself to the driver, in a file of its own: a hint, not the truth."""

from collections.abc import Sequence

import psutil
from pydantic import ValidationError

from trainables.config import Frozen
from trainables.storage import read_many, remove, remove_tree, replace_json
from trainables.storage.processes import started_s
from tune_app.ledger.folder import ExperimentFolder


class Heartbeat(Frozen):
    """Where a trial runs, and whether its memory was not enough."""

    node_id: str
    pid: int
    started: float
    """When the process started, seconds after boot: a number alone may name another process later."""
    out_of_memory: bool = False


def own_heartbeat(node_id: str, *, out_of_memory: bool = False) -> Heartbeat:
    """Returns the heartbeat of this process, on a node of Ray's."""
    process = psutil.Process()
    return Heartbeat(node_id=node_id, pid=process.pid, started=started_s(process), out_of_memory=out_of_memory)


def write_heartbeat(folder: ExperimentFolder, trial_id: str, beat: Heartbeat) -> None:
    """Replaces what a trial said last.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    replace_json(folder.heartbeat(trial_id), beat.model_dump(), durable=False)


def read_heartbeats(folder: ExperimentFolder, trial_ids: Sequence[str]) -> dict[str, Heartbeat]:
    """Returns what trials said last, by id; those that said nothing are left out, and so are damaged files.

    Raises:
        StorageUnavailable: the folder cannot be read.
    """
    contents = read_many(folder.heartbeat(trial_id) for trial_id in trial_ids)
    found = {trial_id: _decode(content) for trial_id, content in zip(trial_ids, contents, strict=True)}
    return {trial_id: beat for trial_id, beat in found.items() if beat is not None}


def end_heartbeat(folder: ExperimentFolder, trial_id: str) -> None:
    """Removes what a trial said, which now has its record.

    Raises:
        StorageUnavailable: the file cannot be removed.
    """
    remove(folder.heartbeat(trial_id))


def take_heartbeat(folder: ExperimentFolder, trial_id: str) -> Heartbeat | None:
    """Returns what a trial said last, and removes it: the next trial of this name starts from nothing."""
    found = read_heartbeats(folder, [trial_id]).get(trial_id)
    if found is not None:
        remove(folder.heartbeat(trial_id))
    return found


def forget_heartbeats(folder: ExperimentFolder) -> None:
    """Removes what trials of an earlier driver said, before any trial of this one runs."""
    remove_tree(folder.heartbeats)


def end_process(beat: Heartbeat) -> bool:
    """Kills the process of a trial, on its own machine; False when it is gone already."""
    try:
        process = psutil.Process(beat.pid)
        if started_s(process) != beat.started:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _decode(content: bytes | OSError) -> Heartbeat | None:
    try:
        return None if isinstance(content, OSError) else Heartbeat.model_validate_json(content)
    except ValidationError:
        return None
