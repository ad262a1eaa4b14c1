"""Tracking beside a search: one process for each tracker, so that none slows a trial, fails it, or holds up the end."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import psutil
from rich.console import Console

from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.terminal.progress import note
from tune_app.terminal.shell import command
from tune_app.tracking.places import check_installed

CLOSE_S = 10.0
"""Seconds that the end of a search waits for its trackers: long enough for a last upload, short enough for a person."""


@contextlib.contextmanager
def tracked(spec: ExperimentSpec, folder: ExperimentFolder, console: Console) -> Iterator[None]:
    """Shows a search to the trackers of its spec while the block runs.

    Raises:
        ConfigError: the library of a tracker is not installed.
    """
    for config in spec.tracking:
        check_installed(config)
    processes = [_Process(folder, config.kind, console) for config in spec.tracking]
    try:
        yield
    finally:
        _close(processes, folder, console)


class _Process:
    """One tracker's process; it reads the experiment's files, and hears of the search's end."""

    def __init__(self, folder: ExperimentFolder, kind: str, console: Console) -> None:
        self.kind = kind
        self._console = console
        command = [sys.executable, "-m", "tune_app.tracking.child", str(folder.path), kind]
        # It ends without a tidy exit, as libraries may hang: what they leave in temporary folders goes with this one.
        self._scratch = tempfile.TemporaryDirectory(prefix="ta-", ignore_cleanup_errors=True)
        # A session of its own: Ctrl-C is for the driver.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": self._scratch.name},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def end(self) -> None:
        """Tells the process that the search is over."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def ended(self, within_s: float) -> bool:
        """Whether the process ends in time, and by itself."""
        try:
            code = self._process.wait(max(0.0, within_s))
        except subprocess.TimeoutExpired:
            return False
        self._hang_up()
        return code == 0

    def kill(self) -> None:
        """Kills the process with what it started: W&B's process has a session of its own."""
        with contextlib.suppress(psutil.NoSuchProcess):
            mine = psutil.Process(self._process.pid)
            for process in [*mine.children(recursive=True), mine]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        self._listener.join(1.0)
        if not self._listener.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()
        self._scratch.cleanup()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            note(line.rstrip(), on=self._console)


def _close(processes: list[_Process], folder: ExperimentFolder, console: Console) -> None:
    deadline = time.monotonic() + CLOSE_S
    for process in processes:
        process.end()
    try:
        late = [process for process in processes if not process.ended(deadline - time.monotonic())]
    except BaseException:  # a second Ctrl-C
        late = processes
        raise
    finally:
        for process in late:
            process.kill()
    for process in late:
        again = f"`{command('track', folder.path, '--to', process.kind)}` shows what is missing"
        note(f"{process.kind} was not shown everything within {CLOSE_S:g} s of the end: {again}", on=console)
