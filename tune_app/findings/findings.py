"""Sentences on the points of an experiment, each with the number of points behind it.

Pure functions over the rows of the table. A sentence needs FEW points (or pairs) at least; where there are fewer,
nothing is said. Effects of a parameter are those of pairs of points that differ in nothing else, so that what a
sampler prefers does not color them.
"""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search_spaces.rungs import FULL
from tune_app.frontier.pareto import knee, non_dominated
from tune_app.terminal.quantities import show_count, show_points, show_ratio, show_share, show_size

FEW = 3
"""Points or pairs below which nothing is said: a median of two is no more than their mean."""
NEAR = 0.01
"""Accuracy below the baseline's that counts as near: of a smaller one chance would decide."""
COLLAPSE = 0.10
"""Accuracy that the best point of a width in bits may lose; smaller: widths count as failing that lose a little."""
CLIFF = 0.01
"""Accuracy that a step of the frontier loses at least, to be called its cliff: as much as NEAR, which is none."""
MOST_VALUES = 32
"""A parameter with more values is taken as continuous: pairs that differ in nothing else would be chance."""
LOST = ("Collapsed", "Diverged")
"""Failures that say something of the point; errors and lost workers do not."""
COLUMNS = ("label", "rung", "state", "reason", "repeat", "feasible", "accuracy", "size_bytes", "compression_ratio")
"""The columns that are read of a row, besides its parameters."""
Value = float | int | str
Pairs = Sequence[Mapping[Any, "Tried"]]


@dataclass(frozen=True)
class Tried:
    """A point of the full schedule, at the means of its runs."""

    label: str
    params: Mapping[str, Value]
    accuracy: float | None
    """None: the network was at chance or diverged, and so was every run of the point."""
    size_bytes: float
    compression_ratio: float
    feasible: bool


@dataclass(frozen=True)
class Finding:
    """One sentence that the data support, and its numbers."""

    kind: str
    """`collapse`, `near_baseline`, `knee`, `cliff`, `width`, `effect` or `precision`."""
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of the text as JSON values: shares between 0 and 1, sizes in bytes."""

    def document(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        return {"kind": self.kind, "text": self.text, **self.facts}


def tried(rows: Iterable[Mapping[str, Any]], parameters: Sequence[str], labels: Sequence[str] = ()) -> list[Tried]:
    """Returns the points of the full schedule that say something, in the order of the rows.

    Args:
        rows: of the table of trials.
        parameters: names of the searched ones.
        labels: what each row is called, if not as its column says.
    """
    runs: dict[frozenset[tuple[str, Value]], list[tuple[Mapping[str, Any], str]]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row["rung"] == FULL and (row["state"] == "complete" or failure_kind(row["reason"]) in LOST):
            params = frozenset((name, row[name]) for name in parameters if row.get(name) is not None)
            runs[params].append((row, labels[i] if labels else str(row["label"])))
    return [_tried(found, parameters) for found in runs.values()]


def findings(
    points: Sequence[Tried], *, baseline_accuracy: float | None, images: int | None = None, plane: bool = True
) -> list[Finding]:
    """Returns what these points say, the most useful first.

    Args:
        points: as `tried` gives them.
        baseline_accuracy: on the validation split; None: what is said against it is left out.
        images: of the validation split.
        plane: accuracy and size are the objectives, so that their frontier has a knee and a cliff.
    """
    names = list(dict.fromkeys(name for point in points for name in point.params))
    front = frontier_of(points) if plane else []
    found: list[Finding | None] = []
    if baseline_accuracy is not None:
        found += [near_baseline(points, baseline_accuracy)]
    found += [knee_of(front), cliff_of(front)]
    if baseline_accuracy is not None:
        found += [width_of(points, name, baseline_accuracy) for name in names if is_width(name)]
    found += [effect_of(points, name) for name in names]
    if images:
        found += [precision_of(points, images)]
    return [finding for finding in found if finding is not None]


def frontier_of(points: Sequence[Tried]) -> list[Tried]:
    """Returns the feasible points that no other dominates in accuracy and size, rising in size; equal ones once.

    A point that measures the same as an earlier one says nothing more.
    """
    feasible = [point for point in points if point.feasible and point.accuracy is not None]
    different = list({(p.size_bytes, p.accuracy): p for p in reversed(feasible)}.values())
    mask = non_dominated(_costs(different))
    return sorted((p for p, kept in zip(different, mask, strict=True) if kept), key=lambda p: p.size_bytes)


def near_baseline(points: Sequence[Tried], baseline_accuracy: float) -> Finding | None:
    """Names the smallest feasible point within NEAR of the baseline, or says how near the best one comes."""
    feasible = [point for point in points if point.feasible and point.accuracy is not None]
    if len(feasible) < FEW:
        return None
    near = [point for point in feasible if _accuracy(point) >= baseline_accuracy - NEAR - 1e-12]
    if not near:
        best = max(feasible, key=lambda p: (_accuracy(p), -p.size_bytes))
        text = (
            f"none of {show_count(len(feasible), 'point')} is within 1 pp of the baseline; "
            f"the best, {best.label}, loses {_loss(baseline_accuracy - _accuracy(best))}"
        )
        return Finding("near_baseline", text, {"label": None, "points": 0, "of": len(feasible), "best": best.label})
    small = min(near, key=lambda p: (p.size_bytes, -_accuracy(p)))
    change = _accuracy(small) - baseline_accuracy
    text = (
        f"smallest within 1 pp of the baseline: {small.label}, {show_share(_accuracy(small))} ({show_points(change)}), "
        f"{show_size(small.size_bytes)}, {show_ratio(small.compression_ratio)}; {len(near):,} of "
        f"{show_count(len(feasible), 'point')} are as near"
    )
    facts = {"label": small.label, "accuracy_change": change, "size_bytes": small.size_bytes}
    return Finding("near_baseline", text, {**facts, "points": len(near), "of": len(feasible)})


def knee_of(front: Sequence[Tried]) -> Finding | None:
    """Names the knee of the frontier, and what its neighbors trade."""
    if len(front) < FEW:
        return None
    place = knee(_costs(front))
    assert place is not None, "the frontier has members"
    chosen = front[place]
    parts, facts = [], dict[str, Any]()
    if place + 1 < len(front):
        gain, more = _change(chosen, front[place + 1])
        parts.append(f"the next larger point gains {_loss(gain)} for {_percent(more)} more bytes")
        facts["larger"] = {"accuracy_change": gain, "size_change": more}
    if place:
        gain, more = _change(chosen, front[place - 1])
        parts.append(f"the next smaller one loses {_loss(-gain)} for {_percent(-more)} fewer")
        facts["smaller"] = {"accuracy_change": gain, "size_change": more}
    text = f"knee of the frontier's {len(front):,} points: {_named(chosen)}; {', '.join(parts)}"
    return Finding("knee", text, {"label": chosen.label, "points": len(front), **facts})


def cliff_of(front: Sequence[Tried]) -> Finding | None:
    """Names the step of the frontier that loses most accuracy, if it stands out: CLIFF, and twice the median step."""
    if len(front) <= FEW:
        return None
    drops = [_accuracy(large) - _accuracy(small) for small, large in itertools.pairwise(front)]
    place = max(range(len(drops)), key=lambda i: (drops[i], -i))
    if drops[place] < CLIFF or drops[place] < 2 * statistics.median(drops):
        return None
    small, large = front[place], front[place + 1]
    _, less = _change(large, small)
    text = (
        f"cliff: from {_named(large)} to {_named(small)}: {show_points(-drops[place])} for {_percent(-less)} fewer "
        f"bytes, the largest of the frontier's {len(drops):,} steps"
    )
    facts = {"above": large.label, "below": small.label, "accuracy_change": -drops[place], "size_change": less}
    return Finding("cliff", text, {**facts, "of_steps": len(drops)})


def width_of(points: Sequence[Tried], name: str, baseline_accuracy: float) -> Finding | None:
    """Names the width in bits below which no point keeps its accuracy, or says what the narrowest one keeps."""
    widths = {
        width: found
        for width, found in sorted(_by_value(points, name).items(), key=lambda w: w[0])
        if len(found) >= FEW
    }
    if len(widths) < 2:
        return None
    losses = {width: _best_loss(found, baseline_accuracy) for width, found in widths.items()}
    below = []
    for width, loss in losses.items():
        if loss is not None and loss <= COLLAPSE:
            break
        below.append(width)
    if len(below) == len(widths):
        return None  # nothing holds: that says more of the search than of this parameter
    holds = list(widths)[len(below)]
    facts = {"parameter": name, "holds_at": holds, "loss_there": losses[holds], "points_there": len(widths[holds])}
    there = f"the best of {show_count(len(widths[holds]), 'point')} {_lost(losses[holds])}"
    if not below:
        return Finding("width", f"{name} {_value(holds)}, the narrowest: {there}", {**facts, "collapses_at": None})
    count, worst = sum(len(widths[width]) for width in below), losses[below[-1]]
    which = f"{name} {_value(below[-1])}{' and below' if len(below) > 1 else ''}"
    if all(losses[width] is None for width in below):
        text = f"every point with {which} is at chance or diverged ({show_count(count, 'point')})"
    else:
        text = f"with {which} the best of {show_count(count, 'point')} {_lost(_least(losses[w] for w in below))}"
    facts |= {"collapses_at": below[-1], "loss": worst, "points": count}
    return Finding("width", f"{text}; at {_value(holds)} {there}", facts)


def effect_of(points: Sequence[Tried], name: str) -> Finding | None:
    """Says what a step of one parameter does at the median, by the pairs of points that differ in nothing else.

    Numbers go step by step, widths down and others up; names from the first one to each other.
    """
    values = [value for value, found in _by_value(points, name).items() if len(found) >= FEW]
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    pairs = _pairs(points, name)
    if all(isinstance(value, int | float) for value in values):
        steps = _chain(sorted(values, reverse=is_width(name)), pairs)
    else:
        first, *others = sorted(values, key=str)
        steps = [step for other in others if (step := _effect(first, other, pairs))]
    if not steps:
        return None
    return Finding("effect", f"{name} {'; '.join(map(_effect_text, steps))}", {"parameter": name, "steps": steps})


def precision_of(points: Sequence[Tried], images: int) -> Finding | None:
    """Says how much one image counts, where that is a difference that people read."""
    if len(points) < FEW or images >= 1_000:
        return None
    text = f"accuracies are of {images:,} validation images: one image is {100 / images:.2f} pp"
    return Finding("precision", text, {"images": images})


def failure_kind(reason: str | None) -> str:
    """Returns the name of the error from the reason why a trial has no result; empty for a complete trial."""
    return (reason or "").partition(":")[0]


def is_width(name: str) -> bool:
    """Whether a parameter is a number of bits: `w_bits`, `a_bits.depthwise`."""
    return name.partition(".")[0].endswith("_bits")


def _tried(runs: Sequence[tuple[Mapping[str, Any], str]], parameters: Sequence[str]) -> Tried:
    complete = [(row, label) for row, label in runs if row["state"] == "complete"]
    first, label = min(complete or runs, key=lambda run: run[0]["repeat"])
    params = {name: first[name] for name in parameters if first.get(name) is not None}
    if not complete:
        return Tried(label, params, None, 0.0, 0.0, feasible=False)

    def mean(name: str) -> float:
        return statistics.fmean(float(row[name]) for row, _ in complete)

    feasible = bool(first["feasible"])
    return Tried(label, params, mean("accuracy"), mean("size_bytes"), mean("compression_ratio"), feasible=feasible)


def _accuracy(point: Tried) -> float:
    assert point.accuracy is not None, "a point with a usable network"
    return point.accuracy


def _costs(points: Sequence[Tried]) -> np.ndarray:
    return np.array([[-_accuracy(p), p.size_bytes] for p in points], dtype=np.float64).reshape(-1, 2)


def _change(start: Tried, end: Tried) -> tuple[float, float]:
    """Returns the change of the accuracy, and that of the size as a share."""
    return _accuracy(end) - _accuracy(start), end.size_bytes / start.size_bytes - 1


def _by_value(points: Sequence[Tried], name: str) -> dict[Any, list[Tried]]:
    found: dict[Any, list[Tried]] = defaultdict(list)
    for point in points:
        if name in point.params:
            found[point.params[name]].append(point)
    return found


def _best_loss(points: Sequence[Tried], baseline_accuracy: float) -> float | None:
    """Returns how much accuracy the best point loses; None: there is no usable network among them."""
    known = [point.accuracy for point in points if point.accuracy is not None]
    return baseline_accuracy - max(known) if known else None


def _least(losses: Iterable[float | None]) -> float | None:
    return min((loss for loss in losses if loss is not None), default=None)


def _pairs(points: Sequence[Tried], name: str) -> Pairs:
    """Returns groups of points that differ in this parameter alone, each by its value."""
    alike: dict[frozenset[tuple[str, Value]], dict[Any, Tried]] = defaultdict(dict)
    for point in points:
        if name in point.params:
            rest = frozenset((n, v) for n, v in point.params.items() if n != name)
            alike[rest][point.params[name]] = point
    return [group for group in alike.values() if len(group) > 1]


def _chain(values: Sequence[Value], pairs: Pairs) -> list[dict[str, Any]]:
    """Returns the steps from each value to the next one with enough pairs."""
    steps, at = [], 0
    while at < len(values) - 1:
        found = ((after, _effect(values[at], values[after], pairs)) for after in range(at + 1, len(values)))
        at, step = next(((after, step) for after, step in found if step), (at + 1, None))
        steps += [step] if step else []
    return steps


def _effect(start: Value, end: Value, pairs: Pairs) -> dict[str, Any] | None:
    both = [(group[start], group[end]) for group in pairs if start in group and end in group]
    usable = [_change(a, b) for a, b in both if a.accuracy is not None and b.accuracy is not None]
    if len(usable) < FEW:
        return None
    return {
        "from": start,
        "to": end,
        "pairs": len(usable),
        "accuracy_change": statistics.median(gain for gain, _ in usable),
        "size_ratio": 1 + statistics.median(more for _, more in usable),
        "lost": sum(a.accuracy is not None and b.accuracy is None for a, b in both),
    }


def _effect_text(step: Mapping[str, Any]) -> str:
    lost = f", {step['lost']} more at chance or diverged" if step["lost"] else ""
    return (
        f"{_value(step['from'])} to {_value(step['to'])}: {show_points(step['accuracy_change'])}, "
        f"{step['size_ratio']:.2f}x the bytes (median of {step['pairs']:,} pairs{lost})"
    )


def _named(point: Tried) -> str:
    return f"{point.label} ({show_share(_accuracy(point))}, {show_size(point.size_bytes)})"


def _loss(loss: float) -> str:
    return f"{100 * loss:.2f} pp"


def _lost(loss: float | None) -> str:
    assert loss is not None, "some point is usable"
    return f"loses {_loss(loss)}" if loss >= 0 else f"gains {_loss(-loss)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.01 else f"{100 * share:.1f} %"


def _value(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
