"""What trials and stages cost in training time, and what the stage cache saved."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from trainables.config import Frozen
from trainables.results import Count, Failed
from tune_app.ledger.ledger import TrialRecord
from tune_app.terminal.quantities import show_count


def training_seconds(record: TrialRecord) -> float:
    """Returns the seconds that a trial cost this experiment; none if another one ran it."""
    return 0.0 if record.taken_from else computed_seconds(record)


def computed_seconds(record: TrialRecord) -> float:
    """Returns the seconds of the stages that a trial did not find in the cache, the one that failed included.

    A failed trial whose stages nobody noted counts with all its time.
    """
    if isinstance(record.result, Failed) and not record.result.stages:
        return record.seconds
    return sum(stage.seconds for stage in record.result.stages if not stage.cached)


def seconds_saved(records: Sequence[TrialRecord]) -> float:
    """Returns the seconds that stages from the cache would have taken, less the time of reading them.

    A stage that none of these records computed counts nothing: the shared baseline would be trained once anyway.
    """
    stages = [stage for record in records if not record.taken_from for stage in record.result.stages]
    made = {stage.key: stage.seconds for stage in stages if not stage.cached}
    return sum(made[stage.key] - stage.seconds for stage in stages if stage.cached and stage.key in made)


class TakenOver(Frozen):
    """The trials that one experiment gave another."""

    trials: Count
    training_seconds: float = Field(ge=0, description="what they took there")


def taken_over(records: Sequence[TrialRecord]) -> dict[str, TakenOver]:
    """Sums up the trials that did not run here, by the name of the experiment that ran them."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.taken_from:
            found.setdefault(record.taken_from, []).append(computed_seconds(record))
    return {name: TakenOver(trials=len(seconds), training_seconds=sum(seconds)) for name, seconds in found.items()}


def cost_lines(training_s: float, saved_s: float, others: Mapping[str, TakenOver]) -> list[str]:
    """Says what training took, what the cache saved, and what came from other experiments."""
    lines = [f"training: {training_s:,.0f} s, {max(0.0, saved_s):,.0f} s more saved by the stage cache"]
    for name, there in others.items():
        trials = show_count(there.trials, "trial")
        lines.append(f"taken over: {trials} from {name}, with {there.training_seconds:,.0f} s of training there")
    return lines
