"""Overview: an experiment as a whole, as trackers show it: the frontier, all points, totals, a confusion matrix."""

import io
import math
from collections.abc import Sequence
from typing import Any

from search_spaces.rungs import FULL
from tune_app.findings.summary import ExperimentSummary, summarize
from tune_app.frontier.points import MAIN
from tune_app.ledger.baseline import caveat
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tables.at_rest import known_now
from tune_app.terminal.quantities import show_count
from tune_app.tracking.hyperparameters import hyperparameters
from tune_app.tracking.protocol import ConfusionMatrix, Overview, RunInfo, Value

NAME = "summary"
MOST_POINTS = 10_000
"""Points that are shown at most: what W&B's tables and charts take."""


def read_overview(folder: ExperimentFolder, *, confusion: ConfusionMatrix | None = None) -> Overview:
    """Returns what an experiment holds now.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    spec, known = folder.read_spec(), known_now(folder)
    rows, found = known.trials.to_pylist(), summarize(folder, known)
    complete = [row for row in rows if row["state"] == "complete" and row["rung"] == FULL]
    frontier = sorted((row for row in complete if row["on_frontier"]), key=lambda row: row["size_bytes"])
    dominated = [row for row in complete if not row["on_frontier"]]
    # What is minimized against what is maximized, where there is one of each.
    x = next((name for name, way in spec.objectives.items() if way == "minimize"), "size_bytes")
    y = next((name for name, way in spec.objectives.items() if way == "maximize"), "accuracy")
    parameters = tuple(spec.space.root)
    columns = dict.fromkeys(["label", *parameters, *MAIN, *spec.metrics, *("on_frontier", "feasible")])
    # The base, before a trial's parameters are put in.
    config: dict[str, Value] = {**hyperparameters(spec.base), "experiment": spec.name, "budget": spec.budget.trials}
    if found.baseline is not None:
        config |= {"baseline_accuracy": found.baseline.accuracy, "baseline_size_bytes": found.baseline.size_bytes}
    return Overview(
        info=RunInfo(f"{spec.name}-{NAME}", f"{spec.name}: {NAME}", spec.name, NAME, config, caveat(spec)),
        records=len(rows),
        columns=(*columns, "trial_id"),
        parameters=parameters,
        x=x,
        y=y,
        frontier=frontier,
        points=[*frontier, *dominated][:MOST_POINTS],
        totals=_totals(found),
        knee=found.best["balanced"].trial_id if found.best else "",
        confusion=confusion,
    )


def parallel_coordinates(overview: Overview) -> dict[str, Any]:
    """Returns a plotly figure with one line per run of a point, colored by accuracy."""
    values = {name: [row[name] for row in overview.points] for name in ("accuracy", *overview.axes)}
    lines = {
        "type": "parcoords",
        "line": {"color": values["accuracy"], "colorscale": "Cividis", "showscale": True},
        "dimensions": [_dimension(name, values[name]) for name in overview.axes],
    }
    runs, points = len(overview.points), sum(row["repeat"] == 0 for row in overview.points)
    of = f"{show_count(points, 'point')}{f' in {runs:,} runs' if runs > points else ''}"
    title = overview.titled(f"{overview.info.group}: {of}")
    return {"data": [lines], "layout": {"title": {"text": title}}}


def opened(picture: bytes) -> Any:
    """Opens a PNG as the image that the libraries of trackers take."""
    from PIL import Image

    return Image.open(io.BytesIO(picture))


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Returns an axis; one of names, or with points without the parameter, has ticks instead of numbers.

    Numbers come first, in their order, then names, and at the end what is for points without the parameter.
    """
    if all(isinstance(value, int | float) for value in values):
        return {"label": name, "values": list(values)}
    places = sorted({*values}, key=lambda value: (value is None, isinstance(value, str), value))
    names = ["–" if value is None else str(value) for value in places]
    ticks = {"tickvals": list(range(len(names))), "ticktext": names}
    return {"label": name, "values": [places.index(value) for value in values], **ticks}


def _totals(found: ExperimentSummary) -> dict[str, float]:
    totals, best = found.totals, found.best
    values: dict[str, float | None] = {
        "trials": sum(totals.trials.values()),
        "complete": totals.trials.get("complete", 0),
        "frontier_points": found.frontier_size,
        "hypervolume": found.hypervolume,
        "training_seconds": totals.training_seconds,
        "seconds_saved": totals.seconds_saved,
        "best_accuracy": best["accuracy"].values["accuracy"] if best else None,
        "best_compression": best["compression"].values["compression_ratio"] if best else None,
    }
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
