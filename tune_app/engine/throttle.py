"""Throttle: work beside the search that may wait, done seldom."""

import math
import time
from collections.abc import Callable


class Throttle:
    """Calls a function at most every few seconds, and for at most a share of the time."""

    def __init__(
        self, call: Callable[[], None], *, every_s: float, share: float, waits: bool, most_s: float = math.inf
    ) -> None:
        """Sets the pauses: with `waits` the first call comes after `every_s`, not at once; no pause is longer than
        `most_s`."""
        self._call, self._every_s, self._share, self._most_s = call, every_s, share, most_s
        self._ended, self._took = time.monotonic() if waits else float("-inf"), 0.0

    def maybe(self) -> None:
        """Calls the function if enough time has passed."""
        pause_s = min(self._most_s, max(self._every_s, self._took / self._share))
        if time.monotonic() - self._ended >= pause_s:
            self.now()

    def now(self) -> None:
        """Calls the function in any case."""
        started = time.monotonic()
        try:
            self._call()
        finally:  # what fails is not tried more often
            self._ended = time.monotonic()
            self._took = self._ended - started
