"""What each search of the benchmark came to, kept as a table: a row for a search, so that none is replayed twice."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.search.settings import SHARES, Setting
from trainables.storage import replace

COLUMNS = tuple([f"{name}_{100 * share:.0f}" for share in SHARES] for name in ("training_s", "wall_s"))
"""The names of an outcome's numbers, such as `training_s_95`."""


class Run(NamedTuple):
    """One search of one method, given up after so many trials."""

    setting: Setting
    method: str
    seed: int
    max_jobs: int


class Outcome(NamedTuple):
    """The seconds of a search until each of SHARES was reached; infinite where it never was."""

    training_s: tuple[float, ...]
    wall_s: tuple[float, ...]


def read_runs(file: Path) -> dict[Run, Outcome]:
    """The searches of a file, none where there is no file."""
    rows = pd.read_parquet(file).to_dict("records") if file.exists() else []
    return {_run(row): Outcome(*(tuple(row[name] for name in names) for names in COLUMNS)) for row in rows}


def write_runs(file: Path, found: Mapping[Run, Outcome]) -> None:
    """Replaces the file as a whole."""
    frame = pd.DataFrame([_row(run, outcome) for run, outcome in found.items()])
    frame = frame.sort_values(["table", "objectives", "workers", "method", "seed"])
    replace(file, frame.to_parquet(index=False, compression="zstd"))


def _run(row: Mapping[str, Any]) -> Run:
    setting = Setting(row["table"], row["objectives"], row["workers"])
    return Run(setting, row["method"], row["seed"], row["max_jobs"])


def _row(run: Run, outcome: Outcome) -> dict[str, Any]:
    times = dict(zip(itertools.chain(*COLUMNS), itertools.chain(*outcome), strict=True))
    return {**run.setting._asdict(), "method": run.method, "seed": run.seed, "max_jobs": run.max_jobs, **times}
