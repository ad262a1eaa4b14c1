"""HungTrials: which running trials stand still, and the end of their workers. No clock of another machine in here."""

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from trainables.stages.markers import stage_states
from tune_app.engine.engine import ReadySearch
from tune_app.on_ray.heartbeat import Heartbeat, read_heartbeats
from tune_app.search.keys import progress_keys

REMEMBERED = 101
"""Epochs over whose durations the median is taken: odd, so that it is one of them, and few, to follow a change."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sign:
    """What a running trial shows: its worker's process, its stages, and whether one of them has ended an epoch."""

    pid: int
    stages: Hashable
    trains: bool


@dataclass(frozen=True)
class _Shown:
    """The last sign of a trial, and since when it shows it.

    `by_epochs` says that this worker has just ended an epoch of a stage: another epoch is all that the next sign takes.
    What loads, compiles, calibrates or begins to train has no measure, and may take far longer.
    """

    sign: Sign
    since: float
    by_epochs: bool


class HungTrials:
    """Compares what running trials show from look to look, by their heartbeats and their stages.

    A trial whose sign stays the same longer than the deadline stands still: its worker hangs, was suspended, or waits
    for one that does. `end` kills the worker: Tune then loses it, and its trial starts again.
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
        self._last: dict[str, _Shown] = {}
        self._keys: dict[str, list[str]] = {}
        """By trial the stages in which it may be at work: they take a configuration to name, and never change."""
        self._epochs_s: deque[float] = deque(maxlen=REMEMBERED)

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
        states = {trial_id: [shown[key] for key in found] for trial_id, found in keys.items()}
        signs = {
            trial_id: Sign(beat.pid, tuple(states[trial_id]), any(state.trains for state in states[trial_id]))
            for trial_id, beat in beats.items()
        }
        for trial_id, still_s in self.standing_still(signs).items():
            label = running[trial_id].label
            logger.warning("%s shows no progress for %.0f s: its worker is ended", label, still_s)
            self._end(beats[trial_id])

    def standing_still(self, signs: Mapping[str, Sign]) -> dict[str, float]:
        """Returns the trials among the running ones, by id, that stand still, and for how many seconds they do.

        Each is named once, then counted anew.
        """
        now, late = self._clock(), dict[str, float]()
        for trial_id, sign in signs.items():
            last, by_epochs = self._last.get(trial_id), False
            if last is not None and last.sign == sign:
                if now - last.since <= self.limit_s(by_epochs=last.by_epochs):
                    continue
                late[trial_id] = now - last.since
            elif last is not None and sign.trains and last.sign.pid == sign.pid:
                by_epochs = True
                if last.by_epochs:
                    self._epochs_s.append(now - last.since)
            self._last[trial_id] = _Shown(sign, now, by_epochs)
        for gone in self._last.keys() - signs.keys():
            del self._last[gone]
        return late

    def limit_s(self, *, by_epochs: bool) -> float:
        """Returns the seconds for which a trial may show the same sign: while it ends epochs, and at other times."""
        epochs_s = self._deadline.medians * statistics.median(self._epochs_s) if self._epochs_s else 0.0
        if by_epochs and self._epochs_s:
            return max(self._deadline.least_s, epochs_s)
        return max(self._deadline.first_s, epochs_s)
