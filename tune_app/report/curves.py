"""Training curves: how the stages of frontier points went, epoch by epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainables.config import stage_of_kind
from tune_app.frontier.points import PointRuns
from tune_app.ledger.ledger import params_label
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped, whole_ticks
from tune_app.report.sizes import spread
from tune_app.stages.histories import History, finished_histories
from tune_app.terminal.quantities import show_count, show_share

MOST = 10
"""Frontier points whose stages are shown; of more, so many are spread evenly, as more lines hide each other."""
COLORS = ("@c0", "@c1", "@c2", "@c3", "@c4", "@c5", "@muted")
DASHES = ("solid", "dot", "dash", "dashdot")
LINES = (
    ("validation accuracy", "val_accuracy", "y", ".2%"),
    ("training accuracy", "train_accuracy", "y", ".2%"),
    ("training loss", "loss", "y2", ".4g"),
    ("validation loss", "val_loss", "y2", ".4g"),
)
"""Name, column, axis and form of each line of training curves."""
FAINT = 0.45
"""Opacity of the lines of training, which stand behind those of validation."""
BEHIND = {"train_accuracy": "val_accuracy", "loss": "val_loss"}
"""Columns of training by those of validation that they stand behind, where these are known."""
Epochs = dict[str, tuple[float | None, ...]]
"""The epochs of a stage by column of LINES; None where an epoch has no such number."""


@dataclass(frozen=True)
class Curve:
    """The epochs of one stage."""

    key: str
    labels: tuple[str, ...]
    """The labels of the points that the stage belongs to."""
    name: str
    """What tells the stage from others of its kind: what its points have in common, or the first of them."""
    epochs: Epochs

    @property
    def accuracy(self) -> tuple[float | None, ...]:
        """The validation accuracy by epoch."""
        return self.epochs["val_accuracy"]


@dataclass(frozen=True)
class CurvesInfo:
    """Curves by kind of stage, in the order in which a trial runs them; `points` of `of` frontier points."""

    kinds: dict[str, tuple[Curve, ...]]
    points: int
    of: int


def curves_info(contents: Contents) -> CurvesInfo:
    """Reads the stages of frontier points; each one once, however many points share it."""
    chosen = spread(contents.frontier, MOST)
    users: dict[tuple[str, str], list[PointRuns]] = {}
    for group in chosen:
        for key, kind in {stage.key: stage.kind for stage in group.first.result.stages}.items():
            users.setdefault((kind, key), []).append(group)
    histories = finished_histories(contents.folder.stages, (key for _, key in users))
    kinds: dict[str, list[Curve]] = {}
    for (kind, key), groups in users.items():
        if key in histories:
            labels = [contents.label(contents.row_of(group)) for group in groups]
            curve = Curve(key, tuple(labels), _name(groups, chosen, labels), epochs_of(histories[key]))
            kinds.setdefault(kind, []).append(curve)
    ranked = sorted(kinds, key=lambda kind: (not stage_of_kind(kind).STARTS, stage_of_kind(kind).ENDS, kind))
    return CurvesInfo({kind: tuple(kinds[kind]) for kind in ranked}, points=len(chosen), of=len(contents.frontier))


def draw_curves(info: CurvesInfo) -> list[Figure]:
    """Draws a figure for each kind of stage: accuracy above, loss below."""
    return [_figure(info, kind, curves) for kind, curves in info.kinds.items()]


def epochs_of(history: History) -> Epochs:
    """Returns the columns of a stage's history with five digits, which say more than any pixel."""
    return {
        column: tuple(None if row.get(column) is None else float(f"{row[column]:.5g}") for row in history)
        for _, column, *_ in LINES
    }


def accuracy_over_loss() -> dict[str, Any]:
    """Returns the two vertical axes of training curves."""
    return {
        "yaxis": {"domain": [0.42, 1], "tickformat": ".2~%", "title": {"text": "accuracy"}},
        "yaxis2": {"domain": [0, 0.34], "title": {"text": "loss"}, "rangemode": "tozero"},
    }


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
        known = [line for line in LINES if any(value is not None for value in curve.epochs[line[1]])]
        for what, column, axis, form in known:
            values, faint = curve.epochs[column], BEHIND.get(column) in {name for _, name, *_ in known}
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(values) <= 30 and not faint else "lines",
                    "name": escaped(curve.name),
                    "legendgroup": curve.key[:16],
                    "showlegend": len(curves) > 1 and what == known[0][0],
                    "x": list(range(1, len(values) + 1)),
                    "y": list(values),
                    "xaxis": "x",
                    "yaxis": axis,
                    "opacity": FAINT if faint else 1,
                    "line": {"color": color, "dash": dash, "width": 1.2 if faint else 1.8},
                    "marker": {"size": 4},
                    "hovertemplate": f"{users}<br>epoch %{{x}}: {what} %{{y:{form}}}<extra></extra>",
                }
            )
    longest = max(len(curve.accuracy) for curve in curves)
    layout = {
        "xaxis": {"title": {"text": "epoch of the stage"}, "anchor": "y2", **whole_ticks(longest)},
        **accuracy_over_loss(),
    }
    # The legend grows over the figure: two names stand beside each other.
    height = 420 + (22 * math.ceil(len(curves) / 2) if len(curves) > 1 else 0)
    return Figure(
        f"curves-{kind.replace('_', '-')}",
        stage_of_kind(kind).TITLE or kind,
        _words(info, curves),
        data,
        layout,
        height=height,
    )


def _words(info: CurvesInfo, curves: tuple[Curve, ...]) -> str:
    last = [curve.accuracy[-1] for curve in curves if curve.accuracy[-1] is not None]
    ends = f" It ends at {show_share(last[0])}." if last else ""
    if len(last) > 1:
        ends = f" They end at {show_share(min(last))} to {show_share(max(last))}."
    stages = f"{len(curves)} stages" if len(curves) > 1 else "One stage"
    faint = any(value is not None for curve in curves for value in curve.epochs["train_accuracy"])
    lines = " Strong lines: validation; faint ones: training." if faint else ""
    return f"{stages} of {info.points} of {info.of} frontier points.{ends}{lines}"
