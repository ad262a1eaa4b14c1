"""The table of a grid that was evaluated once, at every rung: what a trial would find, and what it would cost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search_spaces.parameters import Value
from search_spaces.rungs import FULL
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume
from tune_app.ledger.ledger import Params
from tune_app.spec.experiment import ExperimentSpec

PARENTS = {"channel_prune": ("prune_frac",), "sparsify": ("prune_frac", "sparsity")}
"""The parameters that decide the result of each shared stage."""


@dataclass(frozen=True)
class Stage:
    """A piece of work: equal keys are equal work."""

    key: tuple[Value, ...]
    seconds: float


@dataclass(frozen=True)
class Cell:
    """One point at one rung."""

    row: Mapping[str, Any]
    stages: tuple[Stage, ...]
    """What has to be computed, in order; the shared baseline is not among it."""


@dataclass(frozen=True)
class Table:
    """All cells of a grid."""

    spec: ExperimentSpec
    cells: Mapping[tuple[tuple[Value, ...], str], Cell]
    reference: Mapping[str, float]

    def cell(self, params: Params, rung: str) -> Cell:
        """What a trial of this point at this rung finds."""
        return self.cells[self.key(params), rung]

    def key(self, params: Params) -> tuple[Value, ...]:
        """What names a point in `cells`."""
        return tuple(params[name] for name in self.spec.space.root)

    @cached_property
    def points(self) -> list[dict[str, Value]]:
        """All points, in the order of the grid."""
        return list(self.spec.space.grid())

    @property
    def epochs(self) -> int:
        """Of the full schedule."""
        schedule = getattr(self.spec.base.quantize, "schedule", None)
        return 1 if schedule is None else int(schedule.epochs)

    @property
    def directions(self) -> list[Any]:
        """Of the objectives."""
        return list(self.spec.objectives.values())

    def costs(self, row: Mapping[str, Any]) -> np.ndarray:
        """(k,) objectives of a row, lower is better."""
        return costs_of(row, self.spec)

    @cached_property
    def corner(self) -> np.ndarray:
        """(k,) the reference point, as costs."""
        return self.costs(self.reference)

    @cached_property
    def volume(self) -> float:
        """Hypervolume of the whole grid with the full schedule."""
        rows = [cell.row for (_, rung), cell in self.cells.items() if rung == FULL and cell.row["state"] == "complete"]
        return hypervolume(np.array([self.costs(row) for row in rows]), self.corner)


def continued(table: Table) -> Table:
    """The same where training goes on from where the rung below stopped, as from a checkpoint.

    A trial pays what it trains beyond that rung alone. The seconds of PTQ, which trains nothing, stay its own.
    """
    cells = {}
    for (point, rung), cell in table.cells.items():
        *shared, own = cell.stages
        if rung == FULL:
            begun = table.cells[point, "short"].stages[-1]
            own = replace(own, seconds=max(0.0, own.seconds - begun.seconds))
            shared.append(begun)
        cells[point, rung] = replace(cell, stages=(*shared, own))
    return replace(table, cells=cells)


def shortened(table: Table) -> Table:
    """The same with a schedule as short as that of the highest rung below the full one."""
    below = [rung for rung in table.spec.rungs if rung != FULL][-1]
    cells = {
        (point, rung): replace(table.cells[point, below], row={**table.cells[point, below].row, "rung": FULL})
        if rung == FULL
        else cell
        for (point, rung), cell in table.cells.items()
    }
    return replace(table, cells=cells)


def load_table(path: Path, spec: ExperimentSpec) -> Table:
    """A table from the parquet file that `tune-app run` of its spec wrote.

    A shared stage costs what it cost the trial that made it: the largest figure of all trials that have it, since
    the others only read its result.
    """
    frame = pd.read_parquet(path)
    names = list(spec.space.root)
    shared: dict[tuple[Value, ...], float] = {}
    for kind, parameters in PARENTS.items():
        if f"seconds_{kind}" in frame:
            most = frame.groupby(list(parameters), dropna=False)[f"seconds_{kind}"].max().fillna(0.0)
            for values, seconds in most.items():
                values = values if isinstance(values, tuple) else (values,)
                shared[kind, *values] = float(seconds)
    cells = {}
    for row in frame.to_dict("records"):
        point = tuple(row[name] for name in names)
        own = sum(
            float(row.get(f"seconds_{kind}") or 0.0) for kind in ("ptq", "qat") if row.get(f"seconds_{kind}", 0) > 0
        )
        stages = [Stage(key, shared[key]) for key in shared_keys(row)]
        cells[point, row["rung"]] = Cell(row, (*stages, Stage(("own", *point, row["rung"]), own)))
    return Table(spec, cells, spec.reference)


def shared_keys(row: Mapping[str, Any]) -> list[tuple[Value, ...]]:
    """The keys of the shared stages that a trial needs, in order."""
    found = [(parameters, (kind, *(row[p] for p in parameters))) for kind, parameters in PARENTS.items()]
    return [key for parameters, key in found if row[parameters[-1]] > 0]
