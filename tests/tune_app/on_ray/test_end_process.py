"""A hung trial is ended by its process, and no other process is."""

import os
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from trainables.storage.processes import started_s
from tune_app.on_ray.heartbeat import Heartbeat, end_process, own_heartbeat

SLEEP = "import time; print(1, flush=True); time.sleep(1000)"


@pytest.fixture
def process(start_python: Callable[..., Any]) -> Any:
    started = start_python("-c", SLEEP)
    started.stdout.readline()
    return started


def heartbeat_of(pid: int) -> Heartbeat:
    return Heartbeat(node_id="n", pid=pid, started=started_s(psutil.Process(pid)))


def test_a_process_says_when_it_started() -> None:
    assert own_heartbeat("n") == heartbeat_of(os.getpid())


@pytest.mark.parametrize("step_s", [0, -3600, 3600])
def test_a_hung_process_is_ended_whatever_the_clock_did(
    step_s: float, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat, boot = heartbeat_of(process.pid), psutil.boot_time()
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: boot + step_s)
    assert end_process(heartbeat)
    assert process.wait() == -9


def test_a_process_that_took_the_number_is_left_alone(process: Any) -> None:
    assert not end_process(heartbeat_of(process.pid).model_copy(update={"started": 0.0}))
    assert process.poll() is None


def test_a_process_that_is_gone_is_not_there_to_end(process: Any) -> None:
    heartbeat = heartbeat_of(process.pid)
    process.kill()
    process.wait()
    assert not end_process(heartbeat)
