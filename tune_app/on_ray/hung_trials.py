"""hung_trials: which running trials stand still, and the end of their workers. No clock of another machine in here."""

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from trainables.stages.markers import stage_states
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment
from tune_app.on_ray.heartbeat import Pulse, read_pulses
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import EpochDeadline, ExperimentSpec

REMEMBERED = 101
"""Steps whose durations the median is taken over."""


logger = logging.getLogger(__name__)


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


class Lookout:
    """Compares what running trials show from look to look, by their pulses and their stages.

    `keys_of` gives the stages in which an assignment may be at work, `end` kills a worker: Tune then loses it, and its
    trial starts again.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        folder: ExperimentFolder,
        proposer: Proposer,
        *,
        keys_of: Callable[[Assignment], list[str]],
        end: Callable[[Pulse], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = Watch(spec.epoch_deadline, clock=clock)
        self._folder, self._proposer, self._keys_of, self._end = folder, proposer, keys_of, end

    def look(self) -> None:
        """Now.

        Raises:
            StorageUnavailable: the folder cannot be read.
        """
        running = self._proposer.running
        pulses = read_pulses(self._folder, [work.trial_id for work in running])
        begun = [(work, pulses[work.trial_id]) for work in running if work.trial_id in pulses]
        keys = {work.trial_id: self._keys_of(work) for work, _ in begun}
        shown = stage_states(self._folder.stages, (key for found in keys.values() for key in found))
        signs = {work.trial_id: (pulse.pid, *(shown[key] for key in keys[work.trial_id])) for work, pulse in begun}
        late = self._watch.look(signs)
        for work, pulse in begun:
            if work.trial_id in late:
                logger.warning("%s shows no progress for %.0f s: its worker is ended", work.label, self._watch.limit_s)
                self._end(pulse)
