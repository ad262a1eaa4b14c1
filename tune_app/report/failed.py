"""Trials without a usable result: why, at which stage, and which parameter values they share."""

import math
from collections import Counter
from dataclasses import dataclass

from trainables.results import Failed
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped, whole_ticks
from tune_app.terminal.quantities import show_count

SUSPECTS = 5
"""Parameter values that are named: with more, the first ones would not stand out."""
LEAST = 3
"""Trials with a value before its share of failures says anything: one failure of two is chance."""


@dataclass(frozen=True)
class Reason:
    """One kind of failure at one stage, with the number of its trials."""

    kind: str
    stage: str
    state: str
    rows: tuple[int, ...]
    example: str
    """The message of the newest trial that failed so."""


@dataclass(frozen=True)
class Suspect:
    """A parameter value that fails more often than all trials do."""

    parameter: str
    value: str
    failed: int
    trials: int


@dataclass(frozen=True)
class FailedInfo:
    """The reasons of failed trials, the most frequent first, and suspects, the worst first."""

    reasons: tuple[Reason, ...]
    suspects: tuple[Suspect, ...]
    failed: int
    trials: int


def failed_info(contents: Contents) -> FailedInfo:
    """Counts the failures over all rungs and repeats."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for i, record in enumerate(contents.records):
        if isinstance(record.result, Failed):
            failure = record.result.failure
            found.setdefault((failure.kind, failure.stage, failure.state), []).append(i)
    reasons = [
        Reason(kind, stage, state, tuple(rows), contents.records[rows[-1]].reason.partition(": ")[2])
        for (kind, stage, state), rows in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    failed = sum(len(reason.rows) for reason in reasons)
    return FailedInfo(tuple(reasons), tuple(_suspects(contents, failed)), failed, len(contents.records))


def draw_failed(info: FailedInfo) -> Figure:
    """Draws a bar for each reason."""
    names = [f"{reason.kind} · {reason.stage or 'before a stage'}" for reason in info.reasons]
    trials = [len(reason.rows) for reason in info.reasons]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": trials,
        "y": list(map(escaped, names)),
        "text": list(map(str, trials)),
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": "@outside"},
        "hovertext": [f"{escaped(name)}: {show_count(n, 'trial')}" for name, n in zip(names, trials, strict=True)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "bargap": 0.35,
        "xaxis": {"title": {"text": "trials"}, "rangemode": "tozero", **whole_ticks(max(trials, default=0))},
        "yaxis": {"autorange": "reversed", "ticksuffix": "  ", "showgrid": False, "type": "category"},
    }
    height = 110 + 30 * max(1, len(names))
    return Figure("failures", "Failures by reason", words(info), [trace] if names else [], layout, height=height)


def words(info: FailedInfo) -> str:
    """Returns the counts in a sentence."""
    if not info.failed:
        return "Every trial so far has a usable result." if info.trials else "No trial has finished yet."
    most = info.reasons[0]
    of = f"{info.failed:,} of {show_count(info.trials, 'trial')} ({100 * info.failed / info.trials:.0f} %)"
    return f"{of} without a usable result; most often {most.kind} ({len(most.rows):,})."


def _suspects(contents: Contents, failed: int) -> list[Suspect]:
    """Returns values by which failures stand out; where every trial fails none does."""
    if not failed:
        return []
    tried: Counter[tuple[str, str]] = Counter()
    bad: Counter[tuple[str, str]] = Counter()
    for record in contents.records:
        pairs = [(name, f"{v:g}" if isinstance(v, float) else str(v)) for name, v in record.assignment.params.items()]
        tried.update(pairs)
        if isinstance(record.result, Failed):
            bad.update(pairs)
    share = failed / len(contents.records)
    # Of many values some stand out by chance: the largest of m standard normal numbers is near sqrt(2 ln m).
    far = 1 + math.sqrt(2 * math.log(len(tried)))
    found = [
        Suspect(name, value, bad[name, value], n)
        for (name, value), n in tried.items()
        if n >= LEAST and bad[name, value] / n - share > far * math.sqrt(share * (1 - share) / n)
    ]
    return sorted(found, key=lambda s: (-s.failed / s.trials, -s.failed))[:SUSPECTS]
