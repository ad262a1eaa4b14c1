"""SIGINT and SIGTERM: remembered until a place where stopping is safe, or raised where they come."""

import signal
import threading
from types import FrameType
from typing import Any

from tune_app.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """A context in which a stop signal only sets a mark, and `check` raises at the next safe place.

    An exception out of a signal handler would surface inside Ray's compiled code, which turns it into a
    SystemError. A second signal acts as usual. With `at_once`, where nothing of Ray runs, the handler raises
    Interrupted itself. Outside the main thread nothing is caught.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
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
        """Raises Interrupted, where stopping is safe, if a stop signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles what its callbacks hold into a file that nobody reads."""
        return {}

    def _mark(self, number: int, frame: FrameType | None) -> None:
        if self._at_once:
            raise Interrupted(number)
        self.number = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
