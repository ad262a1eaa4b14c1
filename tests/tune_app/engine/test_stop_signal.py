"""A stop signal is remembered, and raised where stopping is safe."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from tune_app.engine.stop_signal import StopSignal
from tune_app.errors import Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_next_check(number: signal.Signals, code: int) -> None:
    def work() -> None:
        with StopSignal() as stop:
            stop.check()
            os.kill(os.getpid(), number)
            assert stop.number == number
            stop.check()
            pytest.fail("nothing was raised")

    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        work()
    assert caught.value.exit_code == code
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    "end", [None, SystemError("returned a result with an exception set"), SystemExit(15)], ids=repr
)
def test_a_signal_that_nobody_looked_for_comes_out_at_the_end(end: BaseException | None) -> None:
    def work() -> None:
        with StopSignal():
            os.kill(os.getpid(), signal.SIGTERM)
            if end is not None:
                raise end

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()


TWICE = """
import os, signal, subprocess, sys
from tune_app.engine.stop_signal import StopSignal
with StopSignal():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
    print(child.pid)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_second_signal_ends_the_process_and_what_it_began() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped by SIGINT.\n")
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(timeout=30)


def test_no_other_handler_takes_a_signal_that_is_raised() -> None:
    def work() -> None:
        with StopSignal() as stop, stop.raised():
            signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not ours"))
            with contextlib.suppress(Interrupted):  # as compiled code may lose it
                os.kill(os.getpid(), signal.SIGTERM)

    install = signal.signal
    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    assert signal.signal is install


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopSignal():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_it_can_be_pickled_with_the_callbacks_that_hold_it() -> None:
    with StopSignal() as stop:
        assert pickle.loads(pickle.dumps(stop))
