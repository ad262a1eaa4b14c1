"""A stop signal is remembered, and raised where stopping is safe."""

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tune_app.engine.stop_signal import StopSignal, passing_on
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


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module that can be imported, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"module_{len(list(tmp_path.iterdir()))}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(f"import os, signal, threading\n{text}")
        return name

    return write


SIGNALS_ITSELF = "os.kill(os.getpid(), signal.SIGINT)\nthreading.Event().wait(0.2)\nWHOLE = True\n"


@pytest.mark.parametrize("wait_s", [60, 0])
def test_a_signal_at_once_waits_for_the_end_of_an_import(wait_s: float, module: Callable[[str], str]) -> None:
    name, before = module(SIGNALS_ITSELF), signal.getsignal(signal.SIGINT)

    def work() -> None:
        with StopSignal(at_once=True):
            importlib.import_module(name)
            if wait_s:
                threading.Event().wait(wait_s)
                pytest.fail("nothing was raised")

    with pytest.raises(Interrupted, match="SIGINT"):
        work()
    assert sys.modules.pop(name).WHOLE
    assert signal.getsignal(signal.SIGINT) == before
    threading.Event().wait(0.2)  # nothing comes afterwards


def test_a_search_that_is_itself_within_an_import_is_ended_at_once(module: Callable[[str], str]) -> None:
    name = module(
        "from tune_app.engine.stop_signal import StopSignal\n"
        "with StopSignal(at_once=True):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait(60)\n"
        "    raise SystemError('nothing was raised')\n"
    )
    with pytest.raises(Interrupted, match="SIGINT"):
        importlib.import_module(name)


@pytest.mark.parametrize(("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Interrupted)])
def test_a_signal_is_passed_on_to_who_had_it_before(number: signal.Signals, end: type[BaseException]) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(end):
            passing_on(lambda: os.kill(os.getpid(), number))
        assert seen == [number]
        assert passing_on(lambda: 7) == 7
    finally:
        signal.signal(number, before)


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
