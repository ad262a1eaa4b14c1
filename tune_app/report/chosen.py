"""The chosen trial's training: its stages one after another. The page draws it anew for each choice."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from trainables.config import stage_of_kind
from tune_app.report.contents import Contents
from tune_app.report.curves import LINES, Epochs, accuracy_over_loss, epochs_of
from tune_app.report.figure import Figure, escaped
from tune_app.stages.histories import finished_histories

NAME = "curves-chosen"
MOST_TRIALS = 500
"""Trials whose epochs are in the page, those of the frontier first, then the newest: more would make it heavy."""
MOST_EPOCHS = 20_000
"""Epochs of all stages in the page at most: each is a handful of numbers that every reader loads."""
TITLE = "The chosen trial"
GAP, ROWS, STEP = 0.2, 4, 0.045
"""The share of the height between accuracy and loss, and in it the rows of names of stages and their distance."""
TOP = 0.34 + GAP - 0.008
"""Where the first of these rows begins."""
COLORS = ("@c0", "@c1", "@c5", "@c2")
"""The color of each of LINES."""


@dataclass(frozen=True)
class ChosenInfo:
    """The epochs of trials: those of each stage once, and for each row the places of its stages in their order."""

    kinds: tuple[str, ...]
    epochs: tuple[Epochs, ...]
    rows: dict[int, list[int]]
    total: int
    """The number of trials in all."""
    start: int | None
    """The row that is drawn before a reader chooses one: the balanced one, or the first that has epochs."""
    label: str
    """What people call this trial; empty for none."""

    def embedded(self) -> dict[str, Any]:
        """The epochs as the page has them."""
        return {
            "name": NAME,
            "title": TITLE,
            "names": {"rows": ROWS, "step": STEP, "top": TOP},
            "columns": [column for _, column, *_ in LINES],
            "stages": [{"kind": kind, **epochs} for kind, epochs in zip(self.kinds, self.epochs, strict=True)],
            "rows": {str(row): places for row, places in self.rows.items()},
        }


def chosen_info(contents: Contents) -> ChosenInfo:
    """Reads the stages of as many trials as have a place in the page; each stage once."""
    newest = reversed(range(len(contents.records)))
    order = dict.fromkeys([*map(contents.row_of, contents.frontier), *newest])
    keys = {row: _keys(contents, row) for row in list(order)[:MOST_TRIALS]}
    histories = finished_histories(contents.folder.stages, (key for found in keys.values() for key in found))
    kinds: dict[str, str] = {}
    rows: dict[int, list[str]] = {}
    left = MOST_EPOCHS
    for row, found in keys.items():
        known = {key: kind for key, kind in found.items() if key in histories}
        left -= sum(len(histories[key]) for key in known if key not in kinds)
        if left < 0:
            break
        kinds |= known
        if known:
            rows[row] = list(known)
    start = contents.balanced if contents.balanced in rows else next(iter(rows), None)
    place = {key: i for i, key in enumerate(kinds)}
    return ChosenInfo(
        kinds=tuple(kinds.values()),
        epochs=tuple(epochs_of(histories[key]) for key in kinds),
        rows={row: [place[key] for key in found] for row, found in rows.items()},
        total=len(contents.records),
        start=start,
        label="" if start is None else contents.label(start),
    )


def draw_chosen(info: ChosenInfo) -> Figure | None:
    """Draws the trial that is shown first, None where no trial has epochs; the page's script draws the others alike."""
    if info.start is None:
        return None
    places = info.rows[info.start]
    *starts, end = accumulate((len(info.epochs[place]["loss"]) for place in places), initial=0)
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": list(range(1, end + 1)),
            "y": [value for place in places for value in info.epochs[place][column]],
            "xaxis": "x",
            "yaxis": axis,
            "line": {"color": color, "width": 1.8},
            "marker": {"size": 4},
            "hovertemplate": f"epoch %{{x}}: {name} {form}<extra></extra>",
        }
        for (name, column, axis, form), color in zip(LINES, COLORS, strict=True)
    ]
    kinds = [info.kinds[place] for place in places]
    layout = {
        "xaxis": {"title": {"text": "epoch, over all stages"}, "anchor": "y2", "tickformat": "d"},
        **accuracy_over_loss(gap=GAP),
        "shapes": [_border(start) for start in starts[1:]],
        "annotations": [
            _named(kind, i, start, end=after, of=end)
            for i, (kind, start, after) in enumerate(zip(kinds, starts, [*starts[1:], end], strict=True))
        ],
    }
    words = "The stages of the trial that is chosen above, one after another."
    if len(info.rows) < info.total:
        words += f" The page has the epochs of {len(info.rows):,} of {info.total:,} trials: tune-app epochs has all."
    title = f"{TITLE}: {info.label}"
    return Figure(NAME, title, words, data, layout, choices=info.embedded())


def _keys(contents: Contents, row: int) -> dict[str, str]:
    """Returns kinds of the stages of a row by their keys, in their order; those of a teacher of its own are left
    out."""
    baseline = "" if contents.baseline is None else contents.baseline.key
    stages = {stage.key: stage.kind for stage in contents.records[row].result.stages}
    return {
        key: kind
        for key, kind in stages.items()
        if key == baseline or not stage_of_kind(kind).STARTS or baseline not in stages
    }


def _border(start: int) -> dict[str, Any]:
    """Returns the line between two stages."""
    line = {"color": "@muted", "width": 1, "dash": "dot"}
    return {"type": "line", "x0": start + 0.5, "x1": start + 0.5, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _named(kind: str, number: int, start: int, *, end: int, of: int) -> dict[str, Any]:
    """Returns the name of a stage, between accuracy and loss, where no curve is.

    Each stage has a line of its own, since a stage may be shorter than its name; the name of one that begins late
    ends with the stage, since beyond it the figure ends.
    """
    late = start > of / 2
    side = {"x": end + 0.5, "xanchor": "right"} if late else {"x": start + 0.5, "xanchor": "left"}
    place = {**side, "y": TOP - STEP * (number % ROWS), "yref": "paper", "yanchor": "top", "borderpad": 0}
    font = {"size": 11, "color": "@muted"}
    return {"text": escaped(kind), "showarrow": False, "font": font, "bgcolor": "@surface", **place}
