"""The chosen trial's training: its stages one after another. The page draws it anew for each choice."""

from dataclasses import dataclass
from typing import Any

from tune_app.frontier.pareto import knee
from tune_app.frontier.points import mean_costs
from tune_app.report.contents import Contents
from tune_app.report.curves import accuracy_over_loss
from tune_app.report.figure import Figure, escaped
from tune_app.stages.histories import History, finished_histories

NAME = "curves-chosen"
MOST_TRIALS = 500
"""Trials whose epochs are in the page, those of the frontier first, then the newest: more would make it heavy."""
MOST_EPOCHS = 20_000
"""Epochs of all stages in the page at most: each is a handful of numbers that every reader loads."""
LINES = (
    ("validation accuracy", "val_accuracy", "y", "@c0", ".2%"),
    ("training accuracy", "train_accuracy", "y", "@c1", ".2%"),
    ("loss", "loss", "y2", "@c5", ".4g"),
)
"""Name, column, axis, color and form of each line."""
Epochs = dict[str, list[float | None]]


@dataclass(frozen=True)
class ChosenInfo:
    """The epochs of trials: those of each stage once, and for each row the places of its stages in their order."""

    kinds: tuple[str, ...]
    epochs: tuple[Epochs, ...]
    """The epochs by column of LINES."""
    rows: dict[int, list[int]]
    labels: dict[int, str]
    total: int
    """The number of trials in all."""
    start: int | None
    """The row that is drawn before a reader chooses one: the balanced one, or the first that has epochs."""

    def embedded(self) -> dict[str, Any]:
        """The epochs as the page has them."""
        stages = [{"kind": kind, **epochs} for kind, epochs in zip(self.kinds, self.epochs, strict=True)]
        columns = [column for _, column, *_ in LINES]
        return {
            "name": NAME,
            "columns": columns,
            "stages": stages,
            "rows": {str(row): places for row, places in self.rows.items()},
        }


def chosen_info(contents: Contents) -> ChosenInfo:
    """Reads the stages of as many trials as have a place in the page; each stage once."""
    front = contents.frontier
    newest = reversed(range(len(contents.records)))
    order = dict.fromkeys([*(contents.row_of(group) for group in front), *newest])
    keys = {row: _keys(contents, row) for row in list(order)[:MOST_TRIALS]}
    histories = finished_histories(contents.folder.stages, (key for found in keys.values() for key in found))
    places: dict[str, int] = {}
    kinds: list[str] = []
    epochs: list[Epochs] = []
    rows: dict[int, list[int]] = {}
    left = MOST_EPOCHS
    for row, found in keys.items():
        known = [key for key in found if key in histories]
        new = [key for key in known if key not in places]
        left -= sum(len(histories[key]) for key in new)
        if left < 0:
            break
        for key in new:
            places[key] = len(kinds)
            kinds.append(found[key])
            epochs.append(_columns(histories[key]))
        if known:
            rows[row] = [places[key] for key in known]
    balanced = knee(mean_costs(front, contents.spec)) if front else None
    start = None if balanced is None else contents.row_of(front[balanced])
    start = start if start in rows else next(iter(rows), None)
    labels = {row: contents.label(row) for row in rows}
    return ChosenInfo(tuple(kinds), tuple(epochs), rows, labels, len(contents.records), start)


def draw_chosen(info: ChosenInfo) -> Figure | None:
    """Draws the trial that is shown first, None where no trial has epochs; the page's script draws the others alike."""
    if info.start is None:
        return None
    places = info.rows[info.start]
    longest = [max(map(len, info.epochs[place].values())) for place in places]
    starts = [sum(longest[:i]) for i in range(len(places))]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": list(range(1, sum(longest) + 1)),
            "y": [value for place in places for value in info.epochs[place][column]],
            "xaxis": "x",
            "yaxis": axis,
            "line": {"color": color, "width": 1.8},
            "marker": {"size": 4},
            "hovertemplate": f"epoch %{{x}}: {name} %{{y:{form}}}<extra></extra>",
        }
        for name, column, axis, color, form in LINES
    ]
    kinds = [info.kinds[place] for place in places]
    layout = {
        "xaxis": {
            "title": {"text": f"epoch of {escaped(info.labels[info.start])}, over its stages"},
            "anchor": "y2",
            "tickformat": "d",
        },
        **accuracy_over_loss(),
        "shapes": [_border(start) for start in starts[1:]],
        "annotations": [_named(kind, start) for kind, start in zip(kinds, starts, strict=True)],
    }
    words = "The stages of the trial that is chosen above, one after another."
    if len(info.rows) < info.total:
        words += f" The page has the epochs of {len(info.rows):,} of {info.total:,} trials: tune-app epochs has all."
    return Figure(NAME, "The chosen trial", words, data, layout, choices=info.embedded())


def _keys(contents: Contents, row: int) -> dict[str, str]:
    """Returns kinds of the stages of a row by their keys, in their order; those of a teacher of its own are left
    out."""
    baseline = "" if contents.baseline is None else contents.baseline.key
    stages = {stage.key: stage.kind for stage in contents.records[row].result.stages}
    return {key: kind for key, kind in stages.items() if key == baseline or kind != "train" or baseline not in stages}


def _columns(history: History) -> Epochs:
    """Returns the columns of a history with five digits, which say more than any pixel."""
    names = [column for _, column, *_ in LINES]
    return {
        name: [None if epoch.get(name) is None else float(f"{epoch[name]:.5g}") for epoch in history] for name in names
    }


def _border(start: int) -> dict[str, Any]:
    """Returns the line between two stages."""
    line = {"color": "@muted", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": start + 0.5, "x1": start + 0.5, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _named(kind: str, start: int) -> dict[str, Any]:
    """Returns the name of a stage beside its first epoch, upright, since a stage may be short."""
    place = {"x": start + 0.5, "y": 0.43, "yref": "paper", "xanchor": "left", "yanchor": "bottom", "textangle": -90}
    return {"text": escaped(kind), "showarrow": False, "font": {"size": 11, "color": "@muted"}, **place}
