"""Training curves: how the stages of frontier points went, epoch by epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.frontier.points import PointRuns
from tune_app.ledger.ledger import params_label
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped
from tune_app.report.sizes import spread
from tune_app.stages.histories import History, finished_histories
from tune_app.terminal.quantities import show_count, show_share

MOST = 10
"""Frontier points whose stages are shown; of more, so many are spread evenly, as more lines hide each other."""
COLORS = ("@c0", "@c1", "@c2", "@c3", "@c4", "@c5", "@muted")
DASHES = ("solid", "dot", "dash", "dashdot")
VALIDATION, TRAINING = "validation accuracy", "training accuracy"
FAINT = 0.45
"""Opacity of the lines of training accuracy, which stand behind those of validation accuracy."""
NAMES = {
    "train": "Training of the baseline",
    "channel_prune": "Pruning and fine-tuning",
    "sparsify": "Sparsifying and fine-tuning",
    "qat": "Quantization-aware training",
}


@dataclass(frozen=True)
class Curve:
    """The epochs of one stage; None where an epoch has no such number."""

    key: str
    labels: tuple[str, ...]
    """The labels of the points that the stage belongs to."""
    name: str
    """What tells the stage from others of its kind: what its points have in common, or the first of them."""
    accuracy: tuple[float | None, ...]
    train_accuracy: tuple[float | None, ...]
    loss: tuple[float | None, ...]


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
            kinds.setdefault(kind, []).append(_curve(key, labels, _name(groups, chosen, labels), histories[key]))
    order = list(NAMES)
    ranked = sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order))
    return CurvesInfo(
        kinds={kind: tuple(kinds[kind]) for kind in ranked},
        points=len(chosen),
        of=len(contents.frontier),
    )


def draw_curves(info: CurvesInfo) -> list[Figure]:
    """Draws a figure for each kind of stage: accuracy above, loss below."""
    return [_figure(info, kind, curves) for kind, curves in info.kinds.items()]


def accuracy_over_loss() -> dict[str, Any]:
    """Returns the two vertical axes of training curves."""
    return {
        "yaxis": {"domain": [0.42, 1], "tickformat": ".2~%", "title": {"text": "accuracy"}},
        "yaxis2": {
            "domain": [0, 0.34],
            "title": {"text": "loss", "standoff": 12, "font": {"size": 13, "color": "@muted"}},
            "gridcolor": "@grid",
            "linecolor": "@grid",
            "zeroline": False,
            "automargin": True,
            "rangemode": "tozero",
        },
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


def _curve(key: str, labels: list[str], name: str, history: History) -> Curve:
    def column(name: str) -> tuple[float | None, ...]:
        return tuple(None if row.get(name) is None else float(f"{row[name]:.5g}") for row in history)

    return Curve(key, tuple(labels), name, column("val_accuracy"), column("train_accuracy"), column("loss"))


def _figure(info: CurvesInfo, kind: str, curves: tuple[Curve, ...]) -> Figure:
    data = []
    for i, curve in enumerate(curves):
        users = escaped(_many(curve.labels))
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        legend = len(curves) > 1
        for values, axis, what in (
            (curve.accuracy, "y", VALIDATION),
            (curve.train_accuracy, "y", TRAINING),
            (curve.loss, "y2", "loss"),
        ):
            if all(value is None for value in values):
                continue
            form = ".2%" if axis == "y" else ".4g"
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(values) <= 30 and what != TRAINING else "lines",
                    "name": escaped(curve.name),
                    "legendgroup": curve.key[:16],
                    "showlegend": legend,
                    "x": list(range(1, len(values) + 1)),
                    "y": list(values),
                    "xaxis": "x",
                    "yaxis": axis,
                    "opacity": FAINT if what == TRAINING else 1,
                    "line": {"color": color, "dash": dash, "width": 1.2 if what == TRAINING else 1.8},
                    "marker": {"size": 4},
                    "hovertemplate": f"{users}<br>epoch %{{x}}: {what} %{{y:{form}}}<extra></extra>",
                }
            )
            legend = False
    longest = max(len(curve.accuracy) for curve in curves)
    layout = {
        "xaxis": {"title": {"text": "epoch of the stage"}, "anchor": "y2", "tickformat": "d", **_whole(longest)},
        **accuracy_over_loss(),
    }
    # The legend grows over the figure: two names stand beside each other.
    height = 420 + (22 * math.ceil(len(curves) / 2) if len(curves) > 1 else 0)
    return Figure(
        f"curves-{kind.replace('_', '-')}", NAMES.get(kind, kind), _words(info, curves), data, layout, height=height
    )


def _whole(longest: int) -> dict[str, int]:
    """Returns ticks at whole epochs, also where plotly would put some between."""
    return {"dtick": 1} if longest <= 12 else {}


def _many(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:4])
    return f"{shown} and {len(labels) - 4} more" if len(labels) > 4 else shown


def _words(info: CurvesInfo, curves: tuple[Curve, ...]) -> str:
    last = [curve.accuracy[-1] for curve in curves if curve.accuracy[-1] is not None]
    ends = (
        ""
        if not last
        else f" They end at {show_share(min(last))} to {show_share(max(last))}."
        if len(last) > 1
        else f" It ends at {show_share(last[0])}."
    )
    stages = f"{len(curves)} stages" if len(curves) > 1 else "One stage"
    faint = any(value is not None for curve in curves for value in curve.train_accuracy)
    lines = " Strong lines: validation accuracy; faint ones: training accuracy." if faint else ""
    return f"{stages} of {info.points} of {info.of} frontier points.{ends}{lines}"
