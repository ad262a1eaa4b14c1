"""Training curves: how the stages of frontier points went, epoch by epoch."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainables.config import stage_of_kind
from tune_app.drawing.axis import PERCENT
from tune_app.drawing.frontier_info import REFUSED, STANDINGS, Standing
from tune_app.frontier.points import PointRuns
from tune_app.ledger.ledger import params_label
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped, whole_ticks
from tune_app.report.sizes import spread
from tune_app.stages.histories import History, finished_histories
from tune_app.terminal.quantities import show_count, show_share

MOST_REFUSED = 6
"""Points that were refused or lie outside the constraints whose own stages are shown beside them, spread alike."""
MOST = 10
"""Frontier points whose stages are shown; of more, so many are spread evenly, as more lines hide each other."""
COLORS = ("@c0", "@c1", "@c2", "@c3", "@c4", "@c5", "@muted")
FEW = 3
"""Curves that can be told apart in a figure that shares its row; one with more is as wide as the page."""
OUTSIDE: tuple[Standing, ...] = ("infeasible", *REFUSED)
"""The standings of points outside the frontier whose stages are shown."""
DASHES = ("solid", "dot", "dash", "dashdot")
LINES = (
    ("validation accuracy", "val_accuracy", "y", "%{y:.2f} %"),
    ("training accuracy", "train_accuracy", "y", "%{y:.2f} %"),
    ("training loss", "loss", "y2", "%{y:.4g}"),
    ("validation loss", "val_loss", "y2", "%{y:.4g}"),
)
"""Name, column, axis and form of each line of training curves; accuracies are drawn as percents."""
FAINT = 0.45
"""Opacity of the lines of training, which stand behind those of validation."""
BEHIND = {"train_accuracy": "val_accuracy", "loss": "val_loss"}
"""Columns of training by those of validation that they stand behind, where these are known."""
Epochs = dict[str, tuple[float | None, ...]]
"""The epochs of a stage by column of LINES, accuracies in percent; None where an epoch has no such number."""


@dataclass(frozen=True)
class Curve:
    """The epochs of one stage."""

    key: str
    labels: tuple[str, ...]
    """The labels of the points that the stage belongs to."""
    name: str
    """What tells the stage from others of its kind: what its points have in common, or the first of them."""
    epochs: Epochs
    standing: Standing | None = None
    """Of a stage that no point of the frontier has, how its points came out."""

    @property
    def accuracy(self) -> tuple[float | None, ...]:
        """The validation accuracy by epoch, in percent."""
        return self.epochs["val_accuracy"]


@dataclass(frozen=True)
class CurvesInfo:
    """Curves by kind of stage, in the order in which a trial runs them; `points` of `of` frontier points.

    Curves of points outside the frontier come last: those that were refused, or lie outside the constraints.
    """

    kinds: dict[str, tuple[Curve, ...]]
    points: int
    of: int


def curves_info(contents: Contents) -> CurvesInfo:
    """Reads the stages of frontier points, and those that only refused points have; each one once, however many
    points share it."""
    chosen = spread(contents.frontier, MOST)
    refused = spread([g for g in contents.groups if contents.standing(g) in OUTSIDE], MOST_REFUSED)
    users, others = _users(chosen), _users(refused)
    owners = {**users, **{place: groups for place, groups in others.items() if place not in users}}
    histories = finished_histories(contents.folder.stages, (key for _, key in owners))
    kinds: dict[str, list[Curve]] = {}
    for (kind, key), groups in owners.items():
        if key in histories:
            labels = [contents.label(contents.row_of(group)) for group in groups]
            ours = (kind, key) in users
            name = _name(groups, chosen if ours else [*chosen, *refused], labels)
            standing = None if ours else contents.standing(groups[0])
            curve = Curve(key, tuple(labels), name, epochs_of(histories[key]), standing)
            kinds.setdefault(kind, []).append(curve)
    ranked = sorted(kinds, key=lambda kind: (not stage_of_kind(kind).STARTS, stage_of_kind(kind).ENDS, kind))
    return CurvesInfo({kind: tuple(kinds[kind]) for kind in ranked}, points=len(chosen), of=len(contents.frontier))


def draw_curves(info: CurvesInfo) -> list[Figure]:
    """Draws a figure for each kind of stage: accuracy above, loss below."""
    return [_figure(info, kind, curves) for kind, curves in info.kinds.items()]


def _users(groups: Sequence[PointRuns]) -> dict[tuple[str, str], list[PointRuns]]:
    """Returns the points that have each stage, by its kind and key."""
    found: dict[tuple[str, str], list[PointRuns]] = {}
    for group in groups:
        for key, kind in {stage.key: stage.kind for stage in group.first.result.stages}.items():
            found.setdefault((kind, key), []).append(group)
    return found


def epochs_of(history: History) -> Epochs:
    """Returns the columns of a stage's history with five digits, which say more than any pixel."""
    return {
        column: tuple(None if row.get(column) is None else _rounded(row[column], axis) for row in history)
        for _, column, axis, _ in LINES
    }


def accuracy_over_loss(*, gap: float = 0.08) -> dict[str, Any]:
    """Returns the two vertical axes of training curves; `gap` is the share of the height between them."""
    return {
        "yaxis": {"domain": [0.34 + gap, 1], **PERCENT, "title": {"text": "accuracy"}},
        "yaxis2": {"domain": [0, 0.34], "title": {"text": "loss"}, "rangemode": "tozero"},
    }


def _rounded(value: float, axis: str) -> float:
    """Returns a number of an epoch with the digits that can be seen, an accuracy in percent."""
    return float(f"{100 * value if axis == 'y' else value:.5g}")


def _name(groups: Sequence[PointRuns], chosen: Sequence[PointRuns], labels: Sequence[str]) -> str:
    """Returns the name of a stage that several points share: the values that all of them have, and no other point."""
    if len(groups) == 1:
        return labels[0]
    params = [group.first.assignment.params for group in groups]
    others = [group.first.assignment.params for group in chosen if group not in groups]
    common = {
        name: value
        for name, value in params[0].items()
        if all(p.get(name) == value for p in params) and all(p.get(name) != value for p in others)
    }
    if others and common:
        return f"{params_label(common)} ({show_count(len(groups), 'point')})"
    return f"{labels[0]} and {show_count(len(groups) - 1, 'other')}"


def _figure(info: CurvesInfo, kind: str, curves: tuple[Curve, ...]) -> Figure:
    data = []
    for i, curve in enumerate(curves):
        more = f" and {len(curve.labels) - 4} more" if len(curve.labels) > 4 else ""
        users = escaped(f"{', '.join(curve.labels[:4])}{more}")
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        kind_of, symbol = (f" ({STANDINGS[curve.standing]})", "x") if curve.standing else ("", "circle")
        known = [line for line in LINES if any(value is not None for value in curve.epochs[line[1]])]
        for what, column, axis, form in known:
            values, faint = curve.epochs[column], BEHIND.get(column) in {name for _, name, *_ in known}
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(values) <= 30 and not faint else "lines",
                    "name": escaped(f"{curve.name}{kind_of}"),
                    "legendgroup": curve.key[:16],
                    "showlegend": len(curves) > 1 and what == known[0][0],
                    "x": list(range(1, len(values) + 1)),
                    "y": list(values),
                    "xaxis": "x",
                    "yaxis": axis,
                    "opacity": FAINT if faint else 1,
                    "line": {"color": color, "dash": dash, "width": 1.2 if faint else 1.8},
                    "marker": {"size": 7 if curve.standing else 4, "symbol": symbol},
                    "hovertemplate": f"{users}{kind_of}<br>epoch %{{x}}: {what} {form}<extra></extra>",
                }
            )
    longest = max(len(curve.accuracy) for curve in curves)
    layout = {
        "xaxis": {"title": {"text": "epoch of the stage"}, "anchor": "y2", **whole_ticks(longest)},
        **accuracy_over_loss(),
    }
    return Figure(
        f"curves-{re.sub(r'[^a-z0-9]+', '-', kind.lower())}",
        stage_of_kind(kind).TITLE or kind,
        _words(info, curves),
        data,
        layout,
        wide=len(curves) > FEW,
    )


def _words(info: CurvesInfo, curves: tuple[Curve, ...]) -> str:
    front = [curve for curve in curves if curve.standing is None]
    last = [curve.accuracy[-1] / 100 for curve in front if curve.accuracy[-1] is not None]
    ends = f" It ends at {show_share(last[0])}." if last else ""
    if len(last) > 1:
        ends = f" They end at {show_share(min(last))} to {show_share(max(last))}."
    stages = f"{len(front)} stages" if len(front) > 1 else "One stage" if front else "No stage"
    others = Counter(STANDINGS[curve.standing] for curve in curves if curve.standing)
    crosses = ", ".join(f"{n} {name}" for name, n in others.items())
    ends += f" Crosses: {show_count(others.total(), 'stage')} of other points ({crosses})." if others else ""
    faint = any(value is not None for curve in curves for value in curve.epochs["train_accuracy"])
    lines = " Strong lines: validation; faint ones: training." if faint else ""
    return f"{stages} of {info.points} of {info.of} frontier points.{ends}{lines}"
