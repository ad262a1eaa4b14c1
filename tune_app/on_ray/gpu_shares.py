"""Shares: how much of a GPU each trial gets. No Ray and no torch in here.

Trials of one rung train the same way, so they are a class: what one of them needed tells what the next will need.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import Resources

MARGIN = 1.2
"""Times the most memory that a trial of the class took: pruned less, the next one is a little larger."""
MOST = 8
"""Trials on one GPU: beyond that they wait for each other's kernels, whatever their memory."""


class Shares:
    """GPU shares by rung, learned from records; `resources` says where to begin.

    With `gpu: auto` the first trial of a rung has a whole GPU, and the next ones 1/k of it, as many as their memory
    allows. A trial that ran out of memory starts again with twice the share, and so do all of its rung from then on.
    """

    def __init__(self, resources: Resources, records: Iterable[TrialRecord] = ()) -> None:
        self._gpu = resources.gpu
        self._peak: dict[str, float] = {}
        self._least: defaultdict[str, float] = defaultdict(float)
        for record in records:
            self.learn(record)

    def of(self, rung: str) -> float:
        """Returns the share that a trial of this rung gets now."""
        if self._gpu != "auto":
            return max(self._gpu, self._least[rung])
        peak = self._peak.get(rung)
        if peak is None:
            return 1.0
        return max(1 / min(MOST, max(1, math.floor(1 / max(MARGIN * peak, 1e-9)))), self._least[rung])

    def learn(self, record: TrialRecord) -> None:
        """Learns from what a trial took, and what it needed after it had run out of memory."""
        rung = record.assignment.rung
        if record.gpu_peak_share is not None:
            self._peak[rung] = max(self._peak.get(rung, 0.0), record.gpu_peak_share)
        if record.out_of_memory:
            self._least[rung] = max(self._least[rung], record.gpu_share)

    def ran_out(self, rung: str, share: float) -> bool:
        """Notes that this share was too small; True: a larger one is there, and `of` gives it from now on."""
        if share <= 0 or share >= 1:
            return False
        self._least[rung] = max(self._least[rung], min(1.0, 2 * share))
        return True
