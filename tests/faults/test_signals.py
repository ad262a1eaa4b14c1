"""Stop signals in each phase of a run that starts a Ray of its own: one line, the exit code, nothing left over.

A signal while trials run, on a Ray that others use too, is in `test_kill`.
"""

import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.test_kill import TIMEOUT_S, Start, wait_for
from tests.specs import tiny_spec, write_spec
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease

pytestmark = pytest.mark.ray
LEFT_S = 10
"""Seconds in which what Ray had started ends."""


def catches(process: "subprocess.Popen[str]", number: int) -> bool:
    """Whether a process has a handler of a signal."""
    [mask] = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line]
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def has_child(process: "subprocess.Popen[str]", name: str) -> bool:
    return any(name in child.name() for child in psutil.Process(process.pid).children())


def marked(mark: str) -> list[str]:
    """The names of processes that inherited a variable of the environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("STARTED_BY") == mark:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


@pytest.fixture
def alone(start_python: Callable[..., "subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch) -> tuple[Start, str]:
    """Starts `tune-app ARGS…` with a Ray of its own; and the mark of all that comes of it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    mark = uuid.uuid4().hex
    return lambda *args: start_python("-m", "tune_app", *args, STARTED_BY=mark), mark


def ends(process: "subprocess.Popen[str]", number: signal.Signals, mark: str) -> str:
    """Sends a signal; returns what was written to standard error by a process that ended as it should."""
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (128 + number, ""), err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"stopped by {number.name}.")
    deadline = time.monotonic() + LEFT_S
    while left := marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    return err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_the_command_is_imported(number: signal.Signals, alone: tuple[Start, str], tmp_path: Path) -> None:
    start, mark = alone
    process = start("run", write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs")))
    wait_for("a handler", lambda: catches(process, signal.SIGTERM), process)
    assert ends(process, number, mark) == f"stopped by {number.name}.\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_ray_starts(number: signal.Signals, alone: tuple[Start, str], tmp_path: Path) -> None:
    start, mark = alone
    spec = tiny_spec(tmp_path / "runs")
    process = start("run", write_spec(tmp_path / "spec.yaml", spec))
    wait_for("a process of Ray", lambda: has_child(process, "gcs_server"), process)
    assert "go on with: tune-app run" in ends(process, number, mark)
    with Lease(ExperimentFolder(spec.folder)) as lease:  # free for the same command
        lease.check()


def test_while_ray_ends(finished_search: ExperimentFolder, alone: tuple[Start, str], tmp_path: Path) -> None:
    shutil.copytree(str(finished_search.path.parent), tmp_path / "runs")
    spec = tiny_spec(tmp_path / "runs", space={"prune_frac": [0.0, 0.5], "w_bits": [2, 3, 4, 8], "a_bits": [8]})
    start, mark = alone
    process = start("run", write_spec(tmp_path / "spec.yaml", spec), "--trials", 7)
    folder = ExperimentFolder(spec.folder)
    wait_for("the last record", lambda: len(list(folder.trials.glob("*.json"))) == 7, process)
    wait_for("the end of its first process", lambda: not has_child(process, "raylet"), process)
    ends(process, signal.SIGTERM, mark)
