"""One driver at a time, and what it leaves behind."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.tune_app.factories import make_experiment
from trainables.storage import StoragePath, names, read_bytes, replace, replace_json
from tune_app.errors import LeaseHeld
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment

WORK = Assignment(number=3, config_key="a" * 64, params={"w_bits": 4}, seed=0)


def test_a_second_driver_is_told_who_holds_the_lease(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    with (
        Lease(folder),
        pytest.raises(LeaseHeld, match=rf"process {os.getpid()} on {socket.gethostname()}") as caught,
        Lease(folder),
    ):
        pass
    assert caught.value.exit_code == 5


def test_the_lease_is_free_after_the_context(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    for _ in range(3):
        with Lease(folder) as lease:
            lease.check()


def test_a_killed_driver_is_replaced_at_once(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    code = (
        "import sys, time; from tune_app.ledger.folder import ExperimentFolder; "
        "from tune_app.ledger.lease import Lease; "
        "lease = Lease(ExperimentFolder.existing(sys.argv[1])).__enter__(); "
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


def test_a_driver_whose_machine_is_gone_is_replaced(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, now = make_experiment(storage), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("trainables.storage.lock.time", clock)
    replace_json(folder.lease / "00000001.json", {"host": "elsewhere", "pid": 1, "started": 0.0, "beat": 0})
    with Lease(folder) as lease:
        lease.check()
        assert names(folder.lease, "*.json") == ["00000001.json", "00000002.json"]
    assert now[0] < 70


def test_a_driver_that_was_taken_over_stops_writing(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    with Lease(folder) as lease:
        newest = names(folder.lease, "*.json")[-1]
        taken = folder.lease / f"{int(newest.partition('.')[0]) + 1:08d}.json"
        replace_json(taken, {"host": "elsewhere", "pid": 1, "started": 0.0, "beat": 0})
        with pytest.raises(LeaseHeld, match="took over"):
            lease.check()
    assert json.loads(read_bytes(taken))["host"] == "elsewhere"


def test_in_flight_work_is_remembered(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    lease = Lease(folder)
    assert lease.in_flight() == []
    lease.save_in_flight([WORK])
    assert Lease(folder).in_flight() == [WORK]
    for damage in (b"", b"[{]", b"{}", b'[{"number": -1}]'):
        replace(folder.in_flight_file, damage)
        assert lease.in_flight() == []
