"""The growth of a frontier: its hypervolume after each trial, with the trials and the training that it took."""

from collections.abc import Mapping, Sequence

import pandas as pd

from trainables.storage import StoragePath
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.search.budget import Spent
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.columns import CATALOG
from tune_app.terminal.progress import note

ENOUGH = 0.99
"""The share of the hypervolume after which little was gained."""


def settled_at(volumes: Sequence[float]) -> int | None:
    """Returns the place of the first volume that is ENOUGH of the last one; None where that is nothing."""
    final = volumes[-1] if volumes else 0.0
    return next(i for i, volume in enumerate(volumes) if volume >= ENOUGH * final) if final > 0 else None


def trace_frame(experiment: str | StoragePath) -> pd.DataFrame:
    """Reads one row per trial of the full schedule, as `hypervolume_rows` gives them; where there are repeats it notes
    that they do not count.

    Raises:
        ConfigError: the folder holds no experiment, or one without a baseline.
        CorruptFile: the stored spec or baseline is damaged.
    """
    folder = ExperimentFolder.existing(experiment)
    spec, baseline = folder.read_spec(), require_baseline(folder)
    records = read_records(folder)
    rows = hypervolume_rows(records, spec, baseline.reference(spec))
    if any(record.assignment.repeat and record.state == "complete" for record in records):
        note("this hypervolume is of first runs alone, that of `summary` is of means over repeats")
    return pd.DataFrame(rows, columns=[column.name for column in CATALOG["growth"]])


def hypervolume_rows(
    records: Sequence[TrialRecord], spec: ExperimentSpec, reference: Mapping[str, float]
) -> list[dict[str, float | int | str]]:
    """Returns number and label of each trial of the full schedule in order of proposal, and what was known after it.

    docs/columns.md says what each column means; repeats are no trials of their own, but their training counts.
    `records` are the latest attempts of each configuration and rung, `reference` is the corner of the hypervolume, by
    objective.
    """
    spent = Spent(spec, reference)
    rows: list[dict[str, float | int | str]] = []
    for record in sorted(records, key=lambda r: r.assignment.number):
        spent.add(record)
        if record.assignment.is_trial:
            about: dict[str, float | int | str] = {"number": record.assignment.number, "label": record.assignment.label}
            known = {"trials": spent.trials, "training_s": spent.training_s, "hypervolume": spent.volumes[-1]}
            rows.append({**about, **known})
    return rows
