"""Collapse: nothing of a search is usable, since every network that was measured is at chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.rungs import FULL
from trainables.errors import Collapsed
from trainables.results import CHANCE_FACTOR
from tune_app.findings.findings import Finding
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.ledger import TrialRecord
from tune_app.terminal.quantities import show_share

ENOUGH = 8
"""Trials at chance, and none that is not, before anything is said."""
Row = Mapping[str, Any]
"""Of the table of trials: `rung`, `state`, `reason` and `accuracy`."""


def has_collapsed(record: TrialRecord) -> bool:
    """Whether a trial was refused since its accuracy is at chance."""
    return _kind(record.reason) == Collapsed.__name__


def collapse_notice(records: Sequence[TrialRecord], baseline: BaselineInfo) -> str:
    """What a search says when ENOUGH trials were refused at chance, and none is usable; empty before and after.

    Args:
        records: of all trials so far; the newest one was refused.
        baseline: of the experiment.
    """
    rows = [
        {"rung": r.assignment.rung, "state": r.state, "reason": r.reason, "accuracy": r.measured().get("accuracy")}
        for r in records
    ]
    refused = _refused(rows)
    if len(refused) != ENOUGH:
        return ""
    return f"the first {ENOUGH} trials that were measured are all at chance: {_why(refused, baseline)}"


def collapse_finding(rows: Sequence[Row], baseline: BaselineInfo) -> Finding | None:
    """The same of an experiment, from ENOUGH trials on."""
    refused = _refused(rows)
    if len(refused) < ENOUGH:
        return None
    accuracies = [row["accuracy"] for row in refused]
    text = f"all {len(refused):,} trials that were measured are at chance: {_why(refused, baseline)}"
    facts = {"points": len(refused), "limit": _limit(baseline), "lowest": min(accuracies), "highest": max(accuracies)}
    return Finding("collapse", text, facts)


def _refused(rows: Sequence[Row]) -> list[Row]:
    """The refused ones if no trial is complete, else none; a trial that ended otherwise says nothing of collapse."""
    if any(row["state"] == "complete" for row in rows):
        return []
    return [row for row in rows if _kind(row["reason"]) == Collapsed.__name__ and row["accuracy"] is not None]


def _why(refused: Sequence[Row], baseline: BaselineInfo) -> str:
    """Rule, values, way out."""
    accuracies = [row["accuracy"] for row in refused]
    ends = " to ".join(dict.fromkeys(map(show_share, (min(accuracies), max(accuracies)))))
    return (
        f"an accuracy of at most {show_share(_limit(baseline))} ({CHANCE_FACTOR:g} times chance of {baseline.classes} "
        f"classes) is refused, theirs is {ends}, the baseline's {show_share(baseline.accuracy)}; "
        f"{_way_out({row['rung'] for row in refused}, baseline)}"
    )


def _way_out(rungs: set[str], baseline: BaselineInfo) -> str:
    if baseline.accuracy <= _limit(baseline):
        return "the baseline is no better: train it longer, or check what it imports"
    if FULL not in rungs:
        return f"wider bits, less pruning or a search without the rung {' and '.join(sorted(rungs))} may help"
    return "a lower learning rate, wider bits or less pruning may help"


def _limit(baseline: BaselineInfo) -> float:
    return CHANCE_FACTOR / baseline.classes


def _kind(reason: str | None) -> str:
    return (reason or "").partition(":")[0]
