"""SIGINT and SIGTERM: remembered until a place where stopping is safe, or raised where they come."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tune_app.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """A context in which a stop signal only sets a mark; `check` raises at the next safe place.

    An exception out of a signal handler would surface inside Ray's compiled code, which turns it into a
    SystemError. A second signal acts as usual. Outside the main thread nothing is caught.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in NUMBERS}
            self.arm()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arm(self) -> None:
        """Puts the handlers in place, again after code that brings its own (ray.init does)."""
        for number in self._before:
            signal.signal(number, self._mark)

    def check(self) -> None:
        """Raises where stopping is safe, if a stop signal has come.

        Raises:
            Interrupted: a stop signal has come.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles what its callbacks hold into a file that nobody reads."""
        return {}

    def _mark(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)


@contextlib.contextmanager
def stops_at_once() -> Iterator[None]:
    """Returns a context in which a stop signal raises where it comes. Outside the main thread nothing is caught.

    Raises:
        Interrupted: a stop signal has come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
