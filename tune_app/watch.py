"""Watch: which running trials stand still. No clock of another machine and no Ray in here."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from tune_app.spec.experiment import EpochDeadline

REMEMBERED = 101
"""Steps whose durations the median is taken over."""


@dataclass(frozen=True)
class _Last:
    """What a trial looked like, and since when by the watcher's own clock."""

    sign: Hashable
    since: float


class Watch:
    """Compares what running trials show from look to look.

    A trial shows progress by a sign that changes with every epoch and every stage. One whose sign stays the same
    longer than the deadline stands still: its worker hangs, was suspended, or waits for one that does.
    """

    def __init__(self, deadline: EpochDeadline, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._deadline, self._clock = deadline, clock
        self._last: dict[str, _Last] = {}
        self._steps_s: deque[float] = deque(maxlen=REMEMBERED)

    def look(self, signs: Mapping[str, Hashable]) -> list[str]:
        """The trials among the running ones, by id, that stand still; each is named once, then counted anew."""
        now, late = self._clock(), []
        for trial_id, sign in signs.items():
            last = self._last.get(trial_id)
            if last is not None and last.sign != sign:
                self._steps_s.append(now - last.since)
            if last is None or last.sign != sign:
                self._last[trial_id] = _Last(sign, now)
            elif now - last.since > self.limit_s:
                late.append(trial_id)
                self._last[trial_id] = _Last(sign, now)
        for gone in self._last.keys() - signs.keys():
            del self._last[gone]
        return late

    @property
    def limit_s(self) -> float:
        """Seconds without a change that are allowed: before anything was seen to change, those of a first epoch."""
        if not self._steps_s:
            return self._deadline.first_s
        return max(self._deadline.least_s, self._deadline.medians * statistics.median(self._steps_s))
