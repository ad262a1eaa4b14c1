"""The process that shows one tracker a search while it runs: `python -m tune_app.tracking.child FOLDER KIND`.

It ends when its standard input ends, which is when the driver closes it or dies. What it writes to its standard
output are lines for people.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from trainables.errors import StorageUnavailable
from trainables.storage import Lock, redact
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import AnyTracker
from tune_app.terminal.shell import command
from tune_app.tracking.confusion import is_cheap, knee_confusion
from tune_app.tracking.follow import Follower
from tune_app.tracking.overview import read_overview
from tune_app.tracking.places import lock_place, open_memory, open_tracker
from tune_app.tracking.protocol import TrackerUnavailable

ORPHAN_S = 15.0
"""Seconds that this process lives on after the search; a driver that lives ends it before."""
FINISH_S = 8.0
"""Seconds for a run's last data: below the seconds that the driver waits for this process."""
LOOK_EVERY_S, OBJECTS_LOOK_EVERY_S = 2.0, 10.0
"""Seconds between two looks at a folder, and at an object store, where each look is paid for."""
OVERVIEW_EVERY_S = 60.0
"""Seconds between two overviews while the search runs: each is a whole table for the tracker."""
NICE = 10
"""The priority of this process: lower than that of any trial."""
Say = Callable[[str], None]


def main() -> None:
    """Shows the search to the tracker that the command line names, until the search ends."""
    say = _alone()
    os.nice(NICE)
    end = _search_end()
    folder, kind = ExperimentFolder.existing(sys.argv[1]), sys.argv[2]
    again = f"`{command('track', redact(str(folder.path)), '--to', kind)}` shows what is missing"
    try:
        config = next(config for config in folder.read_spec().tracking if config.kind == kind)
        lock = Lock(lock_place(folder, kind))
        if _taken(lock, end):
            try:
                _show(folder, config, end, say, again)
            finally:
                lock.release()
    except Exception as err:
        first_line = (str(err).strip().splitlines() or [""])[0]
        say(f"tracking by {kind} ended: {type(err).__name__}: {redact(first_line)}; {again}")
    os._exit(0)  # nothing that a library left running keeps this process


def _show(folder: ExperimentFolder, config: AnyTracker, end: threading.Event, say: Say, again: str) -> None:
    """Shows a search until it ends; W&B that stops answering gets the rest offline, other trackers get no rest."""
    done: set[str] = set()
    while True:
        tracker, warning = open_tracker(config, folder, fall_back=True, finish_s=FINISH_S)
        if warning:
            say(f"{warning}; {again}")
        follower = Follower(folder, tracker, open_memory(folder, config.kind, tracker.destination), done=done)
        try:
            _follow(folder, follower, end)
            return
        except TrackerUnavailable as err:
            if config.kind != "wandb" or config.mode == "offline":
                raise
            say(f"{err}; runs are written to files from now on; {again}")
            config, done = config.model_copy(update={"mode": "offline"}), follower.done
            with contextlib.suppress(TrackerUnavailable):
                tracker.close()


def _follow(folder: ExperimentFolder, follower: Follower, end: threading.Event) -> None:
    every_s = LOOK_EVERY_S if isinstance(folder.path, os.PathLike) else OBJECTS_LOOK_EVERY_S
    shown = time.monotonic()
    while not end.wait(every_s):
        with contextlib.suppress(StorageUnavailable):  # perhaps for a moment only
            follower.look()
            if follower.live and time.monotonic() - shown > OVERVIEW_EVERY_S:
                follower.show(read_overview(folder))
                shown = time.monotonic()
    follower.look()
    overview = read_overview(folder)
    follower.show(overview)
    if is_cheap(folder) and follower.wants(overview.content + 1):
        follower.show(replace(overview, confusion=knee_confusion(folder, overview)))
    follower.close()


def _taken(lock: Lock, end: threading.Event) -> bool:
    """Whether its turn came, as a process of the last search may be ending, before the search ended."""
    while not lock.try_acquire():
        if end.wait(LOOK_EVERY_S):
            return False
    return True


def _search_end() -> threading.Event:
    """Returns the end of the search, as the process of a tracker learns of it."""
    end = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        end.set()
        time.sleep(ORPHAN_S)
        os._exit(1)  # a library hangs, and nobody is there to end it

    threading.Thread(target=listen, daemon=True).start()
    return end


def _alone() -> Say:
    """Sends all output of libraries to nowhere, and returns a function that writes lines for people."""
    lines = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # the driver is gone
            os.write(lines, f"{line}\n".encode())

    return say


if __name__ == "__main__":
    main()
