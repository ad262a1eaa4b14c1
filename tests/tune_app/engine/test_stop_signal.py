"""A stop signal is remembered, and raised where stopping is safe."""

import os
import pickle
import signal
import threading

import pytest

from tune_app.engine.stop_signal import StopSignal
from tune_app.errors import Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_next_check(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.number == number
        with pytest.raises(Interrupted) as caught:
            stop.check()
        assert caught.value.exit_code == code
        assert signal.getsignal(number) == signal.SIG_DFL  # a second one acts at once
    assert signal.getsignal(number) == before


def test_handlers_come_back_after_code_that_brings_its_own() -> None:
    with StopSignal() as stop:
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not ours"))
        stop.arm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopSignal() as stop:
            stop.arm()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_it_can_be_pickled_with_the_callbacks_that_hold_it() -> None:
    with StopSignal() as stop:
        assert pickle.loads(pickle.dumps(stop))
