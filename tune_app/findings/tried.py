"""Points that a search tried, each at the means of its runs, by the rows of the table of trials."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_app.frontier.pareto import non_dominated
from tune_app.frontier.points import MAIN
from tune_app.ledger.ledger import failure_kind
from tune_app.tables.point_rows import OF_RUN, mean_of, runs_by_point

LOST = ("Collapsed", "Diverged")
"""Failures that say something of the point; errors and lost workers do not."""
COLUMNS = ("label", *OF_RUN, "state", "reason", "feasible", *MAIN)
"""The columns that are read of a row, besides its parameters."""
Value = float | int | str


@dataclass(frozen=True)
class Tried:
    """A point of the full schedule, at the means of its runs."""

    label: str
    params: Mapping[str, Value]
    accuracy: float | None
    """None: the network was at chance or diverged, and so was every run of the point."""
    size_bytes: float
    compression_ratio: float
    feasible: bool


def tried(rows: Iterable[Mapping[str, Any]], parameters: Sequence[str]) -> list[Tried]:
    """Returns the points of the full schedule that say something, in the order of the rows of the table of trials.

    `parameters` are the columns that tell points apart, also those that the space no longer has.
    """
    said = ([run for run in runs if _says_something(run)] for runs in runs_by_point(rows, parameters))
    return [_tried({n: runs[0][n] for n in parameters if runs[0].get(n) is not None}, runs) for runs in said if runs]


def usable(points: Iterable[Tried]) -> list[Tried]:
    """Returns the points with a usable network that keep the constraints."""
    return [point for point in points if point.feasible and point.accuracy is not None]


def frontier_of(points: Sequence[Tried]) -> list[Tried]:
    """Returns the feasible points that no other dominates in accuracy and size, rising in size; equal ones once.

    A point that measures the same as an earlier one says nothing more.
    """
    different = list({(p.size_bytes, p.accuracy): p for p in reversed(usable(points))}.values())
    mask = non_dominated(costs_of_tried(different))
    return sorted((p for p, kept in zip(different, mask, strict=True) if kept), key=lambda p: p.size_bytes)


def accuracy_of(point: Tried) -> float:
    """Returns the accuracy of a point with a usable network."""
    assert point.accuracy is not None, "a point with a usable network"
    return point.accuracy


def costs_of_tried(points: Sequence[Tried]) -> np.ndarray:
    """Returns costs by accuracy and size, (n, 2), of points with a usable network."""
    return np.array([[-accuracy_of(p), p.size_bytes] for p in points], dtype=np.float64).reshape(-1, 2)


def trade(start: Tried, end: Tried) -> tuple[float, float]:
    """Returns the change of the accuracy from one point to another, and that of the size as a share."""
    return accuracy_of(end) - accuracy_of(start), end.size_bytes / start.size_bytes - 1


def pairs_of(points: Sequence[Tried], name: str) -> list[dict[Any, Tried]]:
    """Returns groups of points that differ in this parameter alone, each by its value."""
    alike: dict[frozenset[tuple[str, Value]], dict[Any, Tried]] = defaultdict(dict)
    for point in points:
        if name in point.params:
            rest = frozenset((n, v) for n, v in point.params.items() if n != name)
            alike[rest][point.params[name]] = point
    return [group for group in alike.values() if len(group) > 1]


def _says_something(run: Mapping[str, Any]) -> bool:
    return run["state"] == "complete" or failure_kind(run["reason"]) in LOST


def _tried(params: Mapping[str, Value], runs: Sequence[Mapping[str, Any]]) -> Tried:
    complete = [run for run in runs if run["state"] == "complete"]
    first = (complete or runs)[0]
    if not complete:
        return Tried(first["label"], params, None, 0.0, 0.0, feasible=False)
    accuracy, size_bytes, ratio = (mean_of(complete, name) for name in MAIN)
    return Tried(first["label"], params, accuracy, size_bytes, ratio, feasible=bool(first["feasible"]))
