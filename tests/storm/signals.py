"""SIGINT or SIGTERM at one operation of the command `tune-app run`, and the same command again."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.specs import write_spec
from tests.storm.history import check
from tests.storm.operations import at_operation
from tests.storm.search import TRIALS, Facts, facts, in_child, quick_spec, record_files
from tune_app.__main__ import main
from tune_app.ledger.folder import ExperimentFolder


def signalled(number: int, place: Path, expected: Facts, *, sign: signal.Signals, late: int) -> bool:
    """Sends a signal to a run at an operation, ends it by the same command, and asserts exit codes and one line.

    Returns False where the signal came too late to stop it, which it may from the operation `late` on.
    """
    spec = quick_spec(place)
    folder = ExperimentFolder(spec.folder)
    place.mkdir(parents=True, exist_ok=True)
    spec_file, said = write_spec(place / "spec.yaml", spec), place / "said.txt"
    first = in_child(partial(_command, spec_file, said, partial(_send, number, sign)))
    text = said.read_text()
    assert "Traceback" not in text, text
    kept = record_files(folder)
    if first == 128 + sign:
        assert text.splitlines()[-1].startswith(f"stopped by {sign.name}."), text
    else:
        assert (first, len(kept)) == (0, TRIALS), text
        assert number >= late, f"{sign.name} at operation {number} was swallowed"
    assert in_child(partial(_command, spec_file, said, lambda: None)) == 0, said.read_text()
    check(folder, kept, spec)
    assert facts(folder) == expected
    shutil.rmtree(place)
    return first != 0


def _send(number: int, sign: signal.Signals) -> None:
    at_operation(number, lambda: os.kill(os.getpid(), sign), after=False)


def _command(spec_file: Path, said: Path, prepare: Callable[[], None]) -> None:
    """Becomes the command: its output goes into a file, and its exit code is that of this process."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    sys.argv = ["tune-app", "run", str(spec_file), "--in-process"]
    prepare()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
