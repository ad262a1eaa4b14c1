"""A driver that stands still just after a look at its lease, while another one takes over and ends the search."""

import os
import signal
import socket
import threading
from functools import partial

import trainables.storage.lock as lock
from tests.storm.search import FAILED, TRIALS, in_child, search
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import read_table

HEARTBEAT_S, EXPIRY_S = 0.1, 0.4
"""Short, so that a driver that stands still is soon taken for dead."""


def elsewhere(name: str) -> None:
    """Lets this process believe that it is on another machine, which knows no processes of ours."""
    socket.gethostname = lambda: name
    lock.HEARTBEAT_S, lock.EXPIRY_S = HEARTBEAT_S, EXPIRY_S


def stop_after_look(number: int, spec: ExperimentSpec) -> None:
    """Runs a search that stops itself (SIGSTOP) when the lock of the experiment was looked at so many times."""
    held, looks = lock.Lock.held, 0

    def counted(own: lock.Lock) -> bool:
        nonlocal looks
        found = held(own)
        if own._folder.name == "lease" and threading.current_thread() is threading.main_thread():  # no heartbeat
            looks += 1
            if looks == number:
                os.kill(os.getpid(), signal.SIGSTOP)
        return found

    lock.Lock.held = counted  # type: ignore[method-assign]
    elsewhere("first")
    search(spec)


def _second(spec: ExperimentSpec) -> None:
    elsewhere("second")
    search(spec)


def overtaken(number: int, spec: ExperimentSpec) -> bool:
    """Lets a second driver end a search of which the first one stands still, which then goes on, and must give up.

    Only one that had written everything before it slept may end as if nothing had happened. Returns False where the
    first one never looked so often, and ended the search itself.
    """
    first = os.fork()
    if first == 0:
        code = FAILED
        try:
            stop_after_look(number, spec)
            code = 0
        except LeaseHeld:
            code = LeaseHeld.exit_code
        finally:
            os._exit(code)
    _, status = os.waitpid(first, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        assert os.waitstatus_to_exitcode(status) == 0
        return False
    done = _is_done(ExperimentFolder(spec.folder))
    try:
        assert in_child(partial(_second, spec)) == 0
    finally:
        os.kill(first, signal.SIGCONT)
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    assert code == LeaseHeld.exit_code or (done and code == 0), code
    return True


def _is_done(folder: ExperimentFolder) -> bool:
    """Whether both tables hold every trial."""
    try:
        rows, front = read_table(folder.trials_table), read_table(folder.frontier_table)
    except FileNotFoundError:
        return False
    return len(rows) == TRIALS and set(front["trial_id"].to_pylist()) <= set(rows["trial_id"].to_pylist())
