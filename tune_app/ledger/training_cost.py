"""What trials and stages cost in training time, and what the stage cache saved."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.results import Failed
from tune_app.ledger.ledger import TrialRecord

if TYPE_CHECKING:
    from trainables.stages.files import StageEntry


def training_seconds(record: TrialRecord) -> float:
    """What a trial cost this experiment; nothing if another one ran it."""
    return 0.0 if record.taken_from else computed_seconds(record)


def computed_seconds(record: TrialRecord) -> float:
    """What a trial computed itself: the stages that it did not find in the cache, the one that failed included.

    A failed trial whose stages nobody noted counts with all its time.
    """
    if isinstance(record.result, Failed) and not record.result.stages:
        return record.seconds
    return sum(stage.seconds for stage in record.result.stages if not stage.cached)


def seconds_saved(records: Sequence[TrialRecord]) -> float:
    """What the stages that the cache answered would have taken, less the time of reading them.

    A stage that none of these records computed counts nothing: the shared baseline would be trained once anyway.
    """
    stages = [stage for record in records if not record.taken_from for stage in record.result.stages]
    made = {stage.key: stage.seconds for stage in stages if not stage.cached}
    return sum(made[stage.key] - stage.seconds for stage in stages if stage.cached and stage.key in made)


@dataclass
class TakenOver:
    """What one experiment gave another."""

    trials: int = 0
    training_seconds: float = 0.0
    """That they took there."""


def taken_over(records: Sequence[TrialRecord]) -> dict[str, TakenOver]:
    """By the name of the experiment that ran them, the trials that did not run here."""
    found: dict[str, TakenOver] = {}
    for record in records:
        if record.taken_from:
            from_there = found.setdefault(record.taken_from, TakenOver())
            from_there.trials += 1
            from_there.training_seconds += computed_seconds(record)
    return found


def cost_lines(training_s: float, saved_s: float, others: Mapping[str, TakenOver]) -> list[str]:
    """What training took, what the cache saved, and what came from other experiments, as people read it."""
    lines = [f"training: {training_s:,.0f} s, {max(0.0, saved_s):,.0f} s more saved by the stage cache"]
    for name, there in others.items():
        trials = f"{there.trials:,} trial{'' if there.trials == 1 else 's'}"
        lines.append(f"taken over: {trials} from {name}, with {there.training_seconds:,.0f} s of training there")
    return lines


@dataclass(frozen=True)
class Typical:
    """Medians over the stages that a cache holds.

    `rung_of` gives the rung of last stages by key, `epochs` the epochs of quantization-aware training by rung.
    """

    entries: Sequence["StageEntry"]
    rung_of: Mapping[str, str]
    epochs: Mapping[str, int]

    def seconds(self, kind: str, rung: str = "") -> float | None:
        """Of a stage of this kind, and of this rung if it ends a trial; None when there is none to judge by.

        A rung of quantization-aware training without a stage of its own takes what the others take per epoch.
        """
        made = [e for e in self.entries if e.kind == kind and not e.failed]
        own = [e.seconds for e in made if self.rung_of.get(e.key, "") == rung]
        if own or kind != "qat":
            return _median(own)
        rates = [e.seconds / epochs for e in made if (epochs := self.epochs.get(self.rung_of.get(e.key, ""), 0))]
        rate = _median(rates)
        return None if rate is None else rate * self.epochs[rung]

    def bytes(self, kind: str) -> float | None:
        """Of a stage of this kind on disk; None when there is none to judge by."""
        return _median([float(e.size_bytes) for e in self.entries if e.kind == kind and not e.failed])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
