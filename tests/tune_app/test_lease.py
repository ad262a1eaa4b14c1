"""One driver at a time, and what it leaves behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune_app.factories import make_experiment
from tune_app.errors import LeaseHeld
from tune_app.lease import Lease
from tune_app.ledger import Assignment

WORK = Assignment(number=3, config_key="a" * 64, params={"w_bits": 4}, seed=0)


def test_a_second_driver_is_told_who_holds_the_lease(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    with (
        Lease(folder),
        pytest.raises(LeaseHeld, match=rf"process {os.getpid()} on {socket.gethostname()}") as caught,
        Lease(folder),
    ):
        pass
    assert caught.value.exit_code == 5


def test_the_lease_is_free_after_the_context(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    for _ in range(3):
        with Lease(folder) as lease:
            lease.check()


def test_a_killed_driver_is_replaced_at_once(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from tune_app.folder import ExperimentFolder; "
        "from tune_app.lease import Lease; lease = Lease(ExperimentFolder(Path(sys.argv[1]))).__enter__(); "
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeld), Lease(folder):
            pass
        other.kill()
        other.wait()
        with Lease(folder) as lease:
            lease.check()


def test_a_driver_that_was_taken_over_stops_writing(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    with Lease(folder) as lease:
        newest = max(folder.lease.glob("*.json"))
        taken = folder.lease / f"{int(newest.stem) + 1:08d}.json"
        taken.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, "beat": 0}))
        with pytest.raises(LeaseHeld, match="took over"):
            lease.check()
    assert json.loads(taken.read_text())["host"] == "elsewhere"


def test_in_flight_work_is_remembered(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    lease = Lease(folder)
    assert lease.in_flight() == []
    lease.save_in_flight([WORK])
    assert Lease(folder).in_flight() == [WORK]
    for damage in (b"", b"[{]", b"{}", b'[{"number": -1}]'):
        folder.in_flight_file.write_bytes(damage)
        assert lease.in_flight() == []
