"""The points of a frontier as people compare them: where each lies, and which run stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tune_app.frontier.objectives import costs_of
from tune_app.frontier.points import MAIN
from tune_app.ledger.ledger import Params
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.point_rows import OF_RUN, mean_of, parameters_of, runs_by_point


@dataclass(frozen=True)
class FrontierPoint:
    """A point of the frontier at the means of its runs; `row` is that of the run whose file stands for it."""

    row: dict[str, Any]
    params: Params
    values: dict[str, float]
    """Objectives, bounded columns, accuracy, size_bytes and compression_ratio; of several runs the means."""

    @property
    def label(self) -> str:
        """The name that commands take for it, such as `p30_w4_a8`."""
        return str(self.row["label"])

    @property
    def trial_id(self) -> str:
        """The id of the run whose file stands for the point."""
        return str(self.row["trial_id"])


def points_of(table: pa.Table, spec: ExperimentSpec) -> list[FrontierPoint]:
    """Returns the members of the frontier in a table of trials, in rising order of size."""
    parameters, names = parameters_of(table), list(dict.fromkeys([*MAIN, *spec.metrics]))
    rows = table.select([*dict.fromkeys(["trial_id", *OF_RUN, "state", *names, *parameters])]).to_pylist()
    runs_of = {run["trial_id"]: runs for runs in runs_by_point(rows, parameters) for run in runs}
    found = []
    for row in table.filter(table["on_frontier"]).to_pylist():
        complete = [run for run in runs_of[row["trial_id"]] if run["state"] == "complete"]
        known = [run for run in complete if all(run[name] is not None for name in names)]
        values = {name: mean_of(known, name) for name in names}
        found.append(FrontierPoint(row, {n: row[n] for n in parameters if row[n] is not None}, values))
    return sorted(found, key=lambda p: (p.values["size_bytes"], p.row["number"]))


def costs_of_points(points: Sequence[FrontierPoint], spec: ExperimentSpec) -> np.ndarray:
    """Returns costs by the objectives of a spec, (n, k), lower is better."""
    rows = [costs_of(point.values, spec) for point in points]
    return np.array(rows, dtype=np.float64).reshape(-1, len(spec.objectives))
