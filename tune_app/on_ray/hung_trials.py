"""Lookout: ends the workers of trials that stand still. No Ray in here."""

import logging
import time
from collections.abc import Callable

from trainables.stages.markers import stage_signs
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment
from tune_app.on_ray.heartbeat import Pulse, read_pulses
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.watch import Watch

logger = logging.getLogger(__name__)


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
        shown = stage_signs(self._folder.stages, (key for found in keys.values() for key in found))
        signs = {work.trial_id: (pulse.pid, *(shown[key] for key in keys[work.trial_id])) for work, pulse in begun}
        late = self._watch.look(signs)
        for work, pulse in begun:
            if work.trial_id in late:
                logger.warning("%s shows no progress for %.0f s: its worker is ended", work.label, self._watch.limit_s)
                self._end(pulse)
