"""A hung trial is ended by its process, and no other process is."""

import os
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from trainables.storage.processes import started_s
from tune_app.on_ray.heartbeat import Pulse, end_process, own_pulse

SLEEP = "import time; print(1, flush=True); time.sleep(1000)"


@pytest.fixture
def process(start_python: Callable[..., Any]) -> Any:
    started = start_python("-c", SLEEP)
    started.stdout.readline()
    return started


def pulse_of(pid: int) -> Pulse:
    return Pulse(node_id="n", pid=pid, started=started_s(psutil.Process(pid)))


def test_a_process_says_when_it_started() -> None:
    assert own_pulse("n") == pulse_of(os.getpid())


@pytest.mark.parametrize("step_s", [0, -3600, 3600])
def test_a_hung_process_is_ended_whatever_the_clock_did(
    step_s: float, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse, boot = pulse_of(process.pid), psutil.boot_time()
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: boot + step_s)
    assert end_process(pulse)
    assert process.wait() == -9


def test_a_process_that_took_the_number_is_left_alone(process: Any) -> None:
    assert not end_process(pulse_of(process.pid).model_copy(update={"started": 0.0}))
    assert process.poll() is None


def test_a_process_that_is_gone_is_not_there_to_end(process: Any) -> None:
    pulse = pulse_of(process.pid)
    process.kill()
    process.wait()
    assert not end_process(pulse)
