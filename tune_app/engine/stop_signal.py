"""SIGINT, SIGTERM, and SIGHUP of a terminal that is closed: remembered until a place where stopping is safe, raised
where they come, or the end at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Set
from types import FrameType
from typing import Any, TypeVar

import psutil

from tune_app.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]
Found = TypeVar("Found")
LATER_S = 0.05
"""Seconds until a signal that came during an import comes again: nobody notices them."""


class StopSignal:
    """A context in which a stop signal only sets a mark, and `check` raises at the next safe place.

    An exception out of a signal handler would surface inside Ray's compiled code, which turns it into a
    SystemError. A second signal ends the process where it is. With `at_once`, where nothing of Ray runs, the handler
    raises Interrupted itself, though not out of an import: torch that was cut off cannot be imported again, and a
    notebook goes on in the same process. Whatever ends the block after a signal, Interrupted comes out of it. Outside
    the main thread nothing is caught.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self.number: int | None = None
        self._handled = contextlib.ExitStack()
        self._later = list[threading.Timer]()
        self._imports, self._leaving = 0, False

    def __enter__(self) -> "StopSignal":
        self._imports = _imports(sys._getframe())
        self._handled.enter_context(handled_by(self._mark))
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._leaving = True
        for timer in self._later:
            timer.cancel()
            timer.join()
        self._handled.close()
        if self.number is not None and not isinstance(error, Interrupted):
            raise Interrupted(self.number, of_search=True) from error

    def check(self) -> None:
        """Raises Interrupted, where stopping is safe, if a stop signal has come."""
        if self.number is not None:
            raise Interrupted(self.number, of_search=True)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """A context in which a signal raises Interrupted where it comes, and no code brings a handler of its own.

        `ray.init` does: with it a signal would end the process with 1 or 15, or be lost.
        """
        before, self._at_once = self._at_once, True
        try:
            with without_others():
                yield
        finally:
            self._at_once = before
        self.check()  # an exception out of the handler may have got lost

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles what its callbacks hold into a file that nobody reads."""
        return {}

    def _mark(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if self._leaving:  # Interrupted comes out of the block in any case
            return
        if self._at_once and _imports(frame) > self._imports:
            self._later.append(threading.Timer(LATER_S, signal.pthread_kill, [threading.main_thread().ident, number]))
            self._later[-1].start()
        elif self._at_once:
            raise Interrupted(number, of_search=True)
        elif again:
            end_process(number, frame)


def _imports(frame: FrameType | None) -> int:
    """Returns how many frames of a stack are those of Python's import."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


def passing_on(call: Callable[[], Found]) -> Found:
    """Calls a function, and passes a stop signal that ended it on to the handler that was there before.

    So whoever calls us from Python gets the KeyboardInterrupt of Ctrl-C, and SIGTERM ends the process. Where such a
    handler returns, as asyncio's does, KeyboardInterrupt or Interrupted comes out.
    """
    try:
        with StopSignal(at_once=True):
            return call()
    except Interrupted as err:
        stopped = err
    number = stopped.exit_code - 128
    signal.raise_signal(number)
    raise KeyboardInterrupt if number == signal.SIGINT else stopped


@contextlib.contextmanager
def handled_by(handler: Handler, *numbers: int) -> Iterator[None]:
    """A context in which a function is called when one of these signals comes, both stop signals if none is given.

    A signal that this process was started to ignore is ignored. Outside the main thread nothing happens.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        chosen = (number for number in numbers or NUMBERS if signal.getsignal(number) != signal.SIG_IGN)
        before = {number: signal.signal(number, handler) for number in chosen}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def without_others() -> Iterator[None]:
    """A context in which the handlers of stop signals stay as they are, whoever asks for others."""
    install = signal.signal

    def kept(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in NUMBERS else install(number, handler)

    signal.signal = kept  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install
        renew_handlers()


def renew_handlers() -> None:
    """Puts the handlers of stop signals, as Python knows them, in the place of what compiled code has put there.

    Ray's prints a stack trace.
    """
    if threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            signal.signal(number, signal.getsignal(number))


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A handler that raises Interrupted where the signal comes."""
    raise Interrupted(number)


def end_process(number: int, frame: FrameType | None) -> None:
    """A handler that ends the process where it is, and what it has started, with one line and the exit code."""
    leave(f"stopped by {signal.Signals(number).name}.", 128 + number)


def leave(line: str, code: int, *, spared: Set[psutil.Process] = frozenset()) -> None:
    """Writes a line to standard error, and ends this process where it is and what it has started, other than some.

    A terminal gets its cursor back, which a panel that is drawn there has hidden.
    """
    shown = "\x1b[?25h\n" if os.isatty(2) else ""
    os.write(2, f"{shown}{line}\n".encode())
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    end_children(spared)
    os._exit(code)


def children() -> set[psutil.Process]:
    """Returns the processes that this one has started, and theirs."""
    return set(psutil.Process().children(recursive=True))


def end_children(spared: Set[psutil.Process]) -> None:
    """Kills the processes that this one has started, and theirs, other than some."""
    for process in children() - spared:
        with contextlib.suppress(psutil.Error):
            process.kill()
