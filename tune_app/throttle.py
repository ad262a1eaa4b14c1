"""Throttle: work beside the search that may wait, done seldom."""

import time
from collections.abc import Callable


class Throttle:
    """Calls a function at most every few seconds, and for at most a share of the time."""

    def __init__(self, call: Callable[[], None], *, every_s: float, share: float, waits: bool) -> None:
        """`waits`: the first call comes after `every_s`, not at once."""
        self._call, self._every_s, self._share = call, every_s, share
        self._ended, self._took = time.monotonic() if waits else float("-inf"), 0.0

    def maybe(self) -> None:
        """If enough time has passed."""
        if time.monotonic() - self._ended >= max(self._every_s, self._took / self._share):
            self.now()

    def now(self) -> None:
        """In any case."""
        started = time.monotonic()
        self._call()
        self._ended = time.monotonic()
        self._took = self._ended - started
