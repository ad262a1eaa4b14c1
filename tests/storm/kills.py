"""SIGKILL at one operation of a search, and the same command again."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

from tests.storm.history import check
from tests.storm.operations import at_operation
from tests.storm.search import Facts, facts, in_child, quick_spec, record_files, search
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec


def killed(number: int, place: Path, expected: Facts, *, after: bool) -> bool:
    """Kills a search before or after an operation, ends it by the same call, and asserts that nothing shows it.

    Returns False where it ended before there were so many operations: some depend on the clock.
    """
    spec = quick_spec(place)
    folder = ExperimentFolder(spec.folder)
    first = in_child(partial(_die_at, number, spec, after=after))
    assert first in {0, -signal.SIGKILL}
    kept = record_files(folder)
    assert in_child(partial(search, spec)) == 0
    check(folder, kept, spec)
    assert facts(folder) == expected
    shutil.rmtree(place)
    return first != 0


def _die_at(number: int, spec: ExperimentSpec, *, after: bool) -> None:
    at_operation(number, lambda: os.kill(os.getpid(), signal.SIGKILL), after=after)
    search(spec)
