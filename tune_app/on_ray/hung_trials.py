"""HungTrials: which running trials stand still, and the end of their workers. No clock of another machine in here."""

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping

from trainables.stages.markers import stage_states
from tune_app.engine.engine import ReadySearch
from tune_app.on_ray.heartbeat import Heartbeat, read_heartbeats
from tune_app.search.keys import progress_keys

REMEMBERED = 101
"""Steps whose durations the median is taken over: odd, so that it is one of them, and few enough to follow a change."""

logger = logging.getLogger(__name__)


class HungTrials:
    """Compares what running trials show from look to look, by their heartbeats and their stages.

    A trial shows progress by a sign that changes with every epoch and every stage. One whose sign stays the same
    longer than the deadline stands still: its worker hangs, was suspended, or waits for one that does. `end` kills the
    worker: Tune then loses it, and its trial starts again.
    """

    def __init__(
        self,
        search: ReadySearch,
        *,
        end: Callable[[Heartbeat], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._end, self._clock = search, end, clock
        self._deadline = search.spec.epoch_deadline
        self._last: dict[str, tuple[Hashable, float]] = {}
        """By trial its last sign, and since when it shows it."""
        self._keys: dict[str, list[str]] = {}
        """By trial the stages in which it may be at work: they take a configuration to name, and never change."""
        self._steps_s: deque[float] = deque(maxlen=REMEMBERED)

    def look(self) -> None:
        """Ends the workers of the trials that stand still now.

        Raises:
            StorageUnavailable: the folder cannot be read.
        """
        spec, folder, fingerprint = self._search.spec, self._search.folder, self._search.baseline.fingerprint
        running = {work.trial_id: work for work in self._search.proposer.running}
        beats = read_heartbeats(folder, list(running))
        for trial_id in beats.keys() - self._keys.keys():
            self._keys[trial_id] = progress_keys(spec, fingerprint, running[trial_id])
        keys = {trial_id: self._keys[trial_id] for trial_id in beats}
        shown = stage_states(folder.stages, (key for found in keys.values() for key in found))
        signs = {trial_id: (beat.pid, *(shown[key] for key in keys[trial_id])) for trial_id, beat in beats.items()}
        for trial_id in self.standing_still(signs):
            label = running[trial_id].label
            logger.warning("%s shows no progress for %.0f s: its worker is ended", label, self.limit_s)
            self._end(beats[trial_id])

    def standing_still(self, signs: Mapping[str, Hashable]) -> list[str]:
        """Returns the trials among the running ones, by id, that stand still; each is named once, then counted anew."""
        now, late = self._clock(), []
        for trial_id, sign in signs.items():
            last, since = self._last.get(trial_id, (None, now))
            if trial_id in self._last and last == sign:
                if now - since <= self.limit_s:
                    continue
                late.append(trial_id)
            elif trial_id in self._last:
                self._steps_s.append(now - since)
            self._last[trial_id] = sign, now
        for gone in self._last.keys() - signs.keys():
            del self._last[gone]
        return late

    @property
    def limit_s(self) -> float:
        """Seconds without a change that are allowed: before anything was seen to change, those of a first epoch."""
        if not self._steps_s:
            return self._deadline.first_s
        return max(self._deadline.least_s, self._deadline.medians * statistics.median(self._steps_s))
