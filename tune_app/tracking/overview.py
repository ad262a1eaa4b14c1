"""Overview: an experiment as a whole, as trackers show it: the frontier, all points, totals, a confusion matrix."""

import math
from collections.abc import Sequence
from typing import Any

from search_spaces.rungs import FULL
from tune_app.findings.summary import ExperimentSummary, summarize
from tune_app.ledger.baseline import BaselineInfo, caveat
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.columns import MAIN
from tune_app.tables.trials import load_trials
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
    spec, rows, found = folder.read_spec(), load_trials(folder).to_pylist(), summarize(folder)
    complete = [row for row in rows if row["state"] == "complete" and row["rung"] == FULL]
    frontier = sorted((row for row in complete if row["on_frontier"]), key=lambda row: row["size_bytes"])
    dominated = [row for row in complete if not row["on_frontier"]]
    x, y = _plane(spec)
    parameters = tuple(spec.space.root)
    bounds = (c.metric for c in spec.constraints)
    columns = dict.fromkeys(["label", *parameters, *MAIN, *spec.objectives, *bounds, *("on_frontier", "feasible")])
    config = _config(spec, found.baseline)
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
    """Returns a plotly figure with one line per point, colored by accuracy."""
    return {
        "data": [
            {
                "type": "parcoords",
                "line": {
                    "color": [row["accuracy"] for row in overview.points],
                    "colorscale": "Cividis",
                    "showscale": True,
                },
                "dimensions": [_dimension(name, [row[name] for row in overview.points]) for name in overview.axes],
            }
        ],
        "layout": {"title": {"text": overview.titled(f"{overview.info.group}: {len(overview.points)} points")}},
    }


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Returns an axis; one of names, or with points without the parameter, has ticks instead of numbers."""
    if all(isinstance(value, int | float) for value in values):
        return {"label": name, "values": list(values)}
    names = sorted({"–" if value is None else str(value) for value in values})
    heights = [names.index("–" if value is None else str(value)) for value in values]
    return {"label": name, "values": heights, "tickvals": list(range(len(names))), "ticktext": names}


def _plane(spec: ExperimentSpec) -> tuple[str, str]:
    """Returns the columns of the scatter: what is minimized against what is maximized, where there is one of each."""
    small = next((name for name, way in spec.objectives.items() if way == "minimize"), "size_bytes")
    large = next((name for name, way in spec.objectives.items() if way == "maximize"), "accuracy")
    return small, large


def _totals(found: ExperimentSummary) -> dict[str, float]:
    totals = found.totals
    values: dict[str, float | None] = {
        "trials": sum(totals.trials.values()),
        "complete": totals.trials.get("complete", 0),
        "frontier_points": found.frontier_size,
        "hypervolume": found.hypervolume,
        "training_seconds": totals.training_seconds,
        "seconds_saved": totals.seconds_saved,
    }
    for name, metric in (("accuracy", "accuracy"), ("compression", "compression_ratio")):
        values[f"best_{name}"] = found.best[name].values[metric] if name in found.best else None
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _config(spec: ExperimentSpec, baseline: BaselineInfo | None) -> dict[str, Value]:
    """Returns the configuration of the base, before a trial's parameters are put in, with the baseline's figures."""
    known: dict[str, Value] = {**hyperparameters(spec.base), "experiment": spec.name, "budget": spec.budget.trials}
    if baseline is not None:
        known |= {"baseline_accuracy": baseline.accuracy, "baseline_size_bytes": baseline.size_bytes}
    return known
