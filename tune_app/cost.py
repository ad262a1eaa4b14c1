"""What trials and stages cost in training time, and what the stage cache saved."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.results import Completed
from tune_app.ledger import TrialRecord

if TYPE_CHECKING:
    from trainables.stage_files import StageEntry


def training_seconds(record: TrialRecord) -> float:
    """What a trial computed itself: the stages that it did not find in the cache; of a failed one all its time."""
    if not isinstance(record.result, Completed):
        return record.seconds
    return sum(stage.seconds for stage in record.result.stages if not stage.cached)


def seconds_saved(records: Sequence[TrialRecord]) -> float:
    """What the stages that the cache answered would have taken, less the time of reading them.

    A stage that none of these records computed counts nothing: the shared baseline would be trained once anyway.
    """
    stages = [stage for record in records for stage in record.result.stages]
    made = {stage.key: stage.seconds for stage in stages if not stage.cached}
    return sum(made[stage.key] - stage.seconds for stage in stages if stage.cached and stage.key in made)


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
