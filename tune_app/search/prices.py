"""Prices: what a trial would still compute, in seconds, by the pace of those that have ended."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from tune_app.ledger.ledger import TrialRecord
from tune_app.search.strategy import Step, StepsOf

OVERHEAD_S = 0.3
"""Seconds of every trial beside its stages (write, decode, evaluate), so that no trial is free."""


class Prices:
    """Estimates a trial by the epochs that are missing, at the pace of each kind of stage; what is stored is free."""

    def __init__(self, steps_of: StepsOf) -> None:
        self._steps_of = steps_of
        self.stored: set[str] = set()
        """Keys of the stages whose results are there."""
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def learn(self, record: TrialRecord) -> None:
        """Learns what a measured trial took, and what it left in the cache; other experiments left nothing there."""
        if record.result.measurement is None:
            return
        work = record.assignment
        epochs = {step.key: step.epochs for step in self._steps_of(work.params, work.rung)}
        for stage in record.result.stages:
            if not record.taken_from:
                self.stored.add(stage.key)
            if not stage.cached and stage.key in epochs:
                seconds, done = self._spent[stage.kind]
                self._spent[stage.kind] = [seconds + stage.seconds, done + epochs[stage.key]]

    def paces(self) -> dict[str, float]:
        """Returns the seconds of an epoch of each kind of stage that was computed so far."""
        return {kind: seconds / max(1.0, epochs) for kind, (seconds, epochs) in self._spent.items()}

    def seconds(self, trials: Iterable[Sequence[Step]], coming: Collection[str]) -> list[float]:
        """Returns what trials with these steps would compute, where other trials that run bring the stages `coming`.

        A kind of stage that was never computed takes what the others take on average; all of them 1 s at first.
        """
        paces, stored = self.paces(), self.stored
        usual = sum(paces.values()) / len(paces) if paces else 1.0
        return [
            OVERHEAD_S
            + sum(
                paces.get(step.kind, usual) * step.epochs
                for step in steps
                if step.key not in stored and step.key not in coming
            )
            for steps in trials
        ]
