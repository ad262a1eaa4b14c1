"""A driver that stands still just after a look at its lease, while another one takes over and ends the search."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trainables.storage.lock as lock
import trainables.storage.posix as posix
from tests.storm.history import check
from tests.storm.search import FAILED, TRIALS, Facts, facts, in_child, quick_spec, record_files, search
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import read_table

HEARTBEAT_S, EXPIRY_S = 0.1, 0.4
"""Short, so that a driver that stands still is soon taken for dead."""
SHARED = {"experiment.yaml", "trials.parquet", "frontier.parquet", "totals.json"}
"""The files that every driver replaces."""


def elsewhere(name: str) -> None:
    """Lets this process believe that it is on another machine, which knows no processes of ours."""
    socket.gethostname = lambda: name
    lock.HEARTBEAT_S, lock.EXPIRY_S = HEARTBEAT_S, EXPIRY_S


def _stops_at(number: int) -> Callable[[], None]:
    """What stops this process (SIGSTOP) when it is called for the n-th time by its main thread."""
    calls = 0

    def count() -> None:
        nonlocal calls
        if threading.current_thread() is threading.main_thread():  # no heartbeat
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGSTOP)

    return count


def _first(number: int, spec: ExperimentSpec, *, at_rename: bool) -> None:
    """Runs a search that stops itself after a look at its lease, or before a rename of a file that others replace."""
    stop, held, replace = _stops_at(number), lock.Lock.held, posix.replace

    def looks(own: lock.Lock) -> bool:
        found = held(own)
        if own._folder.name == "lease":
            stop()
        return found

    def replaces(path: Path, content: bytes, *, durable: bool) -> None:
        if path.name in SHARED:
            stop()
        replace(path, content, durable=durable)

    if at_rename:
        posix.replace = replaces
    else:
        lock.Lock.held = looks  # type: ignore[method-assign]
    elsewhere("first")
    search(spec)


def _second(spec: ExperimentSpec) -> None:
    elsewhere("second")
    search(spec)


def overtaken(number: int, place: Path, expected: Facts, *, at_rename: bool = False) -> bool:
    """Lets a second driver end a search of which the first one stands still, which then goes on, and must give up.

    Each has a spec of its own; the last one's is to stay. Only a driver that had written everything before it slept
    may end as if nothing had happened. Returns False where the first one never came so far, and ended the search.
    """
    stored = quick_spec(place)
    specs = [stored.model_copy(update={"worker_retries": times}) for times in (1, 2)]
    folder = ExperimentFolder(stored.folder)
    folder.claim(stored)
    first = os.fork()
    if first == 0:
        code = FAILED
        try:
            _first(number, specs[0], at_rename=at_rename)
            code = 0
        except LeaseHeld:
            code = LeaseHeld.exit_code
        finally:
            os._exit(code)
    _, status = os.waitpid(first, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    if stopped:
        kept, done = record_files(folder), _is_done(folder)
        try:
            assert in_child(partial(_second, specs[1])) == 0
        finally:
            os.kill(first, signal.SIGCONT)
            code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        assert code == LeaseHeld.exit_code or (done and code == 0), code
    else:
        kept = {}
        assert os.waitstatus_to_exitcode(status) == 0
    assert len(record_files(folder)) == TRIALS
    if stopped:
        assert in_child(partial(search, specs[1])) == 0  # one that woke may have left totals that are none
    check(folder, kept, specs[int(stopped)])
    assert facts(folder) == expected
    shutil.rmtree(place)
    return stopped


def _is_done(folder: ExperimentFolder) -> bool:
    """Whether both tables hold every trial."""
    try:
        rows, front = read_table(folder.trials_table), read_table(folder.frontier_table)
    except FileNotFoundError:
        return False
    return len(rows) == TRIALS and set(front["trial_id"].to_pylist()) <= set(rows["trial_id"].to_pylist())
