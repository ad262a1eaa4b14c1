"""Sentences on the points of an experiment, each with the number of points behind it.

Pure functions over the rows of the table. A sentence needs FEW points (or pairs) at least; where there are fewer,
nothing is said. Effects of a parameter are those of pairs of points that differ in nothing else, so that what a
sampler prefers does not color them.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_app.findings.chance import is_noise
from tune_app.findings.tried import Tried, Value, accuracy_of, costs_of_tried, frontier_of, pairs_of, trade, usable
from tune_app.frontier.pareto import knee
from tune_app.terminal.quantities import show_count, show_points, show_ratio, show_share, show_size

FEW = 3
"""Points or pairs below which nothing is said: a median of two is no more than their mean."""
NEAR = 0.01
"""Accuracy below the baseline's that counts as near: of a smaller one chance would decide."""
COLLAPSE = 0.10
"""Accuracy that the best point of a width in bits may lose; smaller: widths count as failing that lose a little."""
CLIFF = 0.01
"""Accuracy that a step of the frontier loses at least, to be called its cliff: as much as NEAR, which is none."""
SOME_IMAGES = 1.5
"""A change of the accuracy by fewer images than this is one of one image, or of none."""
MOST_VALUES = 32
"""A parameter with more values is taken as continuous: pairs that differ in nothing else would be chance."""


@dataclass(frozen=True)
class Finding:
    """One sentence that the data support, and its numbers."""

    kind: str
    """`memorized`, `unbalanced`, `collapse`, `above_baseline`, `near_baseline`, `knee`, `cliff`, `width`, `effect` or
    `precision`."""
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The numbers of the text as JSON values: shares between 0 and 1, sizes in bytes."""

    def document(self) -> dict[str, Any]:
        """Returns the finding as JSON values."""
        return {"kind": self.kind, "text": self.text, **self.facts}


def findings(
    points: Sequence[Tried], *, baseline_accuracy: float | None, images: int | None = None, plane: bool = True
) -> list[Finding]:
    """Returns what these points say, the most useful first.

    Accuracies are of so many `images` of the validation split; without the baseline's, what is said against it is
    left out. `plane`: accuracy and size are the objectives, so that their frontier has a knee and a cliff.
    """
    names = list(dict.fromkeys(name for point in points for name in point.params))
    front = frontier_of(points) if plane else []
    found = [
        near_baseline(points, baseline_accuracy, images),
        knee_of(front),
        cliff_of(front, images),
        *(width_of(points, name, baseline_accuracy) for name in names if is_width(name)),
        *(effect_of(points, name, images) for name in names),
        precision_of(points, images),
    ]
    return [finding for finding in found if finding is not None]


def near_baseline(
    points: Sequence[Tried], baseline_accuracy: float | None, images: int | None = None
) -> Finding | None:
    """Names the smallest feasible point within NEAR of the baseline, or says how near the best one comes."""
    feasible = usable(points)
    if baseline_accuracy is None or len(feasible) < FEW:
        return None
    near = [point for point in feasible if accuracy_of(point) >= baseline_accuracy - NEAR - 1e-12]
    if not near:
        best = max(feasible, key=lambda p: (accuracy_of(p), -p.size_bytes))
        text = (
            f"none of {show_count(len(feasible), 'point')} is within 1 pp of the baseline; "
            f"the best, {best.label}, loses {_loss(baseline_accuracy - accuracy_of(best))}"
        )
        return Finding("near_baseline", text, {"label": None, "points": 0, "of": len(feasible), "best": best.label})
    small = min(near, key=lambda p: (p.size_bytes, -accuracy_of(p)))
    accuracy = accuracy_of(small)
    change = accuracy - baseline_accuracy
    text = (
        f"smallest within 1 pp of the baseline: {small.label}, {show_share(accuracy)} "
        f"({', '.join([show_points(change), *_noise(change, accuracy, images)])}), "
        f"{show_size(small.size_bytes)}, {show_ratio(small.compression_ratio)}; {len(near):,} of "
        f"{show_count(len(feasible), 'point')} are as near"
    )
    facts = {"label": small.label, "accuracy_change": change, "size_bytes": small.size_bytes}
    return Finding("near_baseline", text, {**facts, "points": len(near), "of": len(feasible)})


def knee_of(front: Sequence[Tried]) -> Finding | None:
    """Names the knee of the frontier, and what its neighbors trade."""
    if len(front) < FEW:
        return None
    place = knee(costs_of_tried(front))
    assert place is not None, "the frontier has members"
    chosen = front[place]
    parts, facts = [], dict[str, Any]()
    if place + 1 < len(front):
        gain, more = trade(chosen, front[place + 1])
        parts.append(f"the next larger point gains {_loss(gain)} for {_percent(more)} more bytes")
        facts["larger"] = {"accuracy_change": gain, "size_change": more}
    if place:
        gain, more = trade(chosen, front[place - 1])
        parts.append(
            f"the next smaller one loses {_loss(-gain)} for {_percent(-more)} fewer{'' if parts else ' bytes'}"
        )
        facts["smaller"] = {"accuracy_change": gain, "size_change": more}
    text = f"knee of the frontier's {len(front):,} points, where it bends most: {_named(chosen)}; {', '.join(parts)}"
    return Finding("knee", text, {"label": chosen.label, "points": len(front), **facts})


def cliff_of(front: Sequence[Tried], images: int | None = None) -> Finding | None:
    """Names the step of the frontier that loses most accuracy, if it stands out: CLIFF, and twice the median step."""
    if len(front) <= FEW:
        return None
    drops = [accuracy_of(large) - accuracy_of(small) for small, large in itertools.pairwise(front)]
    place = max(range(len(drops)), key=lambda i: (drops[i], -i))
    if drops[place] < CLIFF or drops[place] < 2 * statistics.median(drops):
        return None
    small, large = front[place], front[place + 1]
    _, less = trade(large, small)
    chance = "".join(f" ({words})" for words in _noise(-drops[place], accuracy_of(small), images))
    text = (
        f"cliff: from {_named(large)} to {_named(small)}: {show_points(-drops[place])}{chance} for {_percent(-less)} "
        f"fewer bytes, the largest of the frontier's {len(drops):,} steps"
    )
    facts = {"above": large.label, "below": small.label, "accuracy_change": -drops[place], "size_change": less}
    return Finding("cliff", text, {**facts, "of_steps": len(drops)})


def width_of(points: Sequence[Tried], name: str, baseline_accuracy: float | None) -> Finding | None:
    """Names the width in bits below which no point keeps its accuracy, or says what the narrowest one keeps."""
    widths = dict(sorted(_by_value(points, name, least=1 if _is_sweep(points, name) else FEW).items()))
    if baseline_accuracy is None or len(widths) < 2:
        return None
    losses = {width: _best_loss(found, baseline_accuracy) for width, found in widths.items()}
    below = list(itertools.takewhile(lambda width: losses[width] > COLLAPSE, losses))
    if len(below) == len(widths):
        return None  # nothing holds: that says more of the search than of this parameter
    holds = list(widths)[len(below)]
    facts = {"parameter": name, "holds_at": holds, "loss_there": losses[holds], "points_there": len(widths[holds])}
    there = f"the best of {show_count(len(widths[holds]), 'point')} {_lost(losses[holds])}"
    if not below:
        return Finding("width", f"{name} {_value(holds)}, the narrowest: {there}", {**facts, "collapses_at": None})
    count, loss = sum(len(widths[width]) for width in below), losses[below[-1]]
    which = f"{name} {_value(below[-1])}{' and below' if len(below) > 1 else ''}"
    least = min(losses[width] for width in below)
    text = f"with {which} the best of {show_count(count, 'point')} {_lost(least)}"
    if math.isinf(least):
        text = f"every point with {which} is at chance or diverged ({show_count(count, 'point')})"
    facts |= {"collapses_at": below[-1], "loss": None if math.isinf(loss) else loss, "points": count}
    return Finding("width", f"{text}; at {_value(holds)} {there}", facts)


def effect_of(points: Sequence[Tried], name: str, images: int | None = None) -> Finding | None:
    """Says what a step of one parameter does at the median, by the pairs of points that differ in nothing else.

    Numbers go step by step, widths down and others up; names from the first one to each other.
    """
    values = list(_by_value(points, name, least=FEW))
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    pairs = pairs_of(points, name)
    if all(isinstance(value, int | float) for value in values):
        steps = _chain(sorted(values, reverse=is_width(name)), pairs)
    else:
        first, *others = sorted(values, key=str)
        steps = [step for other in others if (step := _effect(first, other, pairs))]
    if not steps:
        return None
    text = "; ".join(_effect_text(step, images) for step in steps)
    return Finding("effect", f"{name} {text}", {"parameter": name, "steps": steps})


def precision_of(points: Sequence[Tried], images: int | None) -> Finding | None:
    """Says how much one image counts, where that is a difference that people read."""
    if not images or len(points) < FEW or images >= 1_000:
        return None
    text = f"accuracies are of {images:,} validation images: one image is {show_points(1 / images, signed=False)}"
    return Finding("precision", text, {"images": images})


def is_width(name: str) -> bool:
    """Whether a parameter is a number of bits: `w_bits`, `a_bits.depthwise`."""
    return name.partition(".")[0].endswith("_bits")


def _chain(values: Sequence[Value], pairs: Sequence[Mapping[Any, Tried]]) -> list[dict[str, Any]]:
    """Returns the steps from each value to the next one with enough pairs."""
    steps, at = [], 0
    while at < len(values) - 1:
        found = ((after, _effect(values[at], values[after], pairs)) for after in range(at + 1, len(values)))
        at, step = next(((after, step) for after, step in found if step), (at + 1, None))
        steps += [step] if step else []
    return steps


def _is_sweep(points: Sequence[Tried], name: str) -> bool:
    """Whether nothing but this parameter differs: then a single point of a value shows what the value does."""
    others = {frozenset((key, value) for key, value in point.params.items() if key != name) for point in points}
    return len(others) == 1 and len({point.params.get(name) for point in points}) >= FEW


def _by_value(points: Sequence[Tried], name: str, *, least: int) -> dict[Any, list[Tried]]:
    """Returns the points that have a parameter by its value, where there are enough of one."""
    found: dict[Any, list[Tried]] = defaultdict(list)
    for point in points:
        if name in point.params:
            found[point.params[name]].append(point)
    return {value: alike for value, alike in found.items() if len(alike) >= least}


def _best_loss(points: Sequence[Tried], baseline_accuracy: float) -> float:
    """Returns how much accuracy the best point loses; infinite without a usable network among them."""
    best = max((point.accuracy for point in points if point.accuracy is not None), default=-math.inf)
    return baseline_accuracy - best


def _effect(start: Value, end: Value, pairs: Sequence[Mapping[Any, Tried]]) -> dict[str, Any] | None:
    both = [(group[start], group[end]) for group in pairs if start in group and end in group]
    known = [trade(a, b) for a, b in both if a.accuracy is not None and b.accuracy is not None]
    if len(known) < FEW:
        return None
    return {
        "from": start,
        "to": end,
        "pairs": len(known),
        "accuracy_change": statistics.median(gain for gain, _ in known),
        "size_ratio": 1 + statistics.median(more for _, more in known),
        "lost": sum(a.accuracy is not None and b.accuracy is None for a, b in both),
    }


def _noise(change: float, accuracy: float, images: int | None) -> list[str]:
    """Says of a change of the accuracy that it may be chance; nothing where it is more, or images are not known."""
    return ["within the noise"] if images and is_noise(change, accuracy, images) else []


def _effect_text(step: Mapping[str, Any], images: int | None) -> str:
    few = images and abs(step["accuracy_change"]) * images < SOME_IMAGES
    image = " (an image or less)" if few else ""
    lost = f", {step['lost']} more at chance or diverged" if step["lost"] else ""
    return (
        f"{_value(step['from'])} to {_value(step['to'])}: {show_points(step['accuracy_change'])}{image}, "
        f"{show_ratio(step['size_ratio'])} the bytes (median of {step['pairs']:,} pairs{lost})"
    )


def _named(point: Tried) -> str:
    return f"{point.label} ({show_share(accuracy_of(point))}, {show_size(point.size_bytes)})"


def _loss(loss: float) -> str:
    return show_points(loss, signed=False)


def _lost(loss: float) -> str:
    return f"loses {_loss(loss)}" if loss >= 0 else f"gains {_loss(-loss)}"


def _percent(share: float) -> str:
    return show_share(share, digits=0 if abs(share) >= 0.01 else 1)


def _value(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
