"""Which rows of the table of trials make up a point: the newest run of each of its repeats."""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from search_spaces.rungs import FULL

PARAMETERS = b"tune_app.parameters"
"""The entry of a table's metadata that lists the columns that are parameters."""
OF_RUN = ("rung", "number", "attempt", "repeat")
"""The columns that tell the runs of a point apart."""
Row = Mapping[str, Any]


def parameters_of(table: pa.Table) -> list[str]:
    """Returns the columns of a table of trials that are parameters, also those that the space no longer has."""
    found: list[str] = json.loads(table.schema.metadata[PARAMETERS])
    return found


def runs_by_point(rows: Iterable[Row], parameters: Sequence[str]) -> list[list[Row]]:
    """Returns the runs of each point with the full schedule, first ones first; points as their rows come.

    Of several rows of one run the newest counts, as in `frontier.points.group_runs`. Rows need OF_RUN and `parameters`.
    """
    found: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        if row["rung"] == FULL:
            runs = found.setdefault(tuple(row.get(name) for name in parameters), {})
            runs[row["repeat"]] = max(runs.get(row["repeat"], row), row, key=lambda r: (r["number"], r["attempt"]))
    return [[run for _, run in sorted(runs.items())] for runs in found.values()]


def mean_of(runs: Sequence[Row], name: str) -> float:
    """Returns the mean of a column over runs that all know it."""
    return float(runs[0][name]) if len(runs) == 1 else fmean(float(run[name]) for run in runs)
