"""The finding that nothing of a search is usable, since every network that was measured is at chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.rungs import FULL
from trainables.errors import Collapsed
from trainables.results import chance_limit
from tune_app.findings.findings import Finding
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.ledger import TrialRecord, failure_kind
from tune_app.terminal.quantities import show_share

ENOUGH = 8
"""Trials at chance, and none that is not, before anything is said: fewer may be bad luck, more cost training."""
Row = Mapping[str, Any]
"""A row of the table of trials, with `rung`, `state`, `reason` and `accuracy`."""


def collapse_notice(records: Sequence[TrialRecord], baseline: BaselineInfo) -> str:
    """Returns what a search says when ENOUGH trials were refused at chance and none is usable; empty before and after.

    The records are of all trials so far, of which the newest one was refused.
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
    """Finds that at least ENOUGH trials of an experiment were refused at chance, and none is usable."""
    refused = _refused(rows)
    if len(refused) < ENOUGH:
        return None
    accuracies = [row["accuracy"] for row in refused]
    text = f"all {len(refused):,} trials that were measured are at chance: {_why(refused, baseline)}"
    facts = {"points": len(refused), "limit": _limit(baseline), "lowest": min(accuracies), "highest": max(accuracies)}
    return Finding("collapse", text, facts)


def _refused(rows: Sequence[Row]) -> list[Row]:
    """Returns the trials at chance if none is complete, else nothing; one that ended otherwise says nothing of it."""
    if any(row["state"] == "complete" for row in rows):
        return []
    return [row for row in rows if failure_kind(row["reason"]) == Collapsed.__name__ and row["accuracy"] is not None]


def _why(refused: Sequence[Row], baseline: BaselineInfo) -> str:
    """Returns the rule, the values and the way out."""
    accuracies = [row["accuracy"] for row in refused]
    ends = " to ".join(dict.fromkeys(map(show_share, (min(accuracies), max(accuracies)))))
    return (
        f"an accuracy of at most {show_share(_limit(baseline))} (chance of {baseline.classes} classes: "
        f"{show_share(1 / baseline.classes)}) is refused, theirs is {ends}, the baseline's "
        f"{show_share(baseline.accuracy)}; {_way_out({row['rung'] for row in refused}, baseline)}"
    )


def _way_out(rungs: set[str], baseline: BaselineInfo) -> str:
    if baseline.accuracy <= _limit(baseline):
        return "the baseline is no better: train it longer, or check what it imports"
    if FULL not in rungs:
        return f"wider bits, less pruning or a search without the rung {' and '.join(sorted(rungs))} may help"
    return "a lower learning rate, wider bits or less pruning may help"


def _limit(baseline: BaselineInfo) -> float:
    return chance_limit(baseline.classes)
