"""The growth of a frontier: its hypervolume after each trial, with the trials and the training that it took."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from search_spaces.rungs import FULL
from trainables.storage import StoragePath
from tune_app.frontier.objectives import costs_of, is_feasible
from tune_app.frontier.pareto import hypervolume_trace
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.ledger.training_cost import training_seconds
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.columns import CATALOG


def trace_frame(experiment: str | StoragePath) -> pd.DataFrame:
    """Reads one row per trial of the full schedule, as `hypervolume_rows` gives them.

    Raises:
        ConfigError: the folder holds no experiment, or one without a baseline.
        CorruptFile: the stored spec or baseline is damaged.
    """
    folder = ExperimentFolder.existing(experiment)
    spec, baseline = folder.read_spec(), require_baseline(folder)
    records = read_records(folder)
    columns = [column.name for column in CATALOG["growth"]]
    return pd.DataFrame(hypervolume_rows(records, spec, baseline.reference(spec)), columns=columns)


def hypervolume_rows(
    records: Sequence[TrialRecord], spec: ExperimentSpec, reference: Mapping[str, float]
) -> list[dict[str, float | int | str]]:
    """Returns number and label of each trial of the full schedule in order of proposal, and what was known after it.

    docs/columns.md says what each column means; repeats are no trials of their own, but their training counts.

    Args:
        records: the latest attempt of each configuration and rung.
        spec: for the objectives and constraints.
        reference: the corner of the hypervolume, by objective.
    """
    corner = costs_of(reference, spec)
    ordered = sorted(records, key=lambda r: r.assignment.number)
    spent = np.cumsum([training_seconds(r) for r in ordered])
    rows: list[dict[str, float | int | str]] = []
    values: list[np.ndarray] = []
    for record, seconds in zip(ordered, spent, strict=True):
        if record.assignment.rung != FULL or record.assignment.repeat:
            continue
        metrics = record.metrics()
        values.append(costs_of(metrics, spec) if is_feasible(metrics, spec) else corner)
        known = {"number": record.assignment.number, "label": record.assignment.label, "trials": len(rows) + 1}
        rows.append({**known, "training_s": float(seconds)})
    volumes = hypervolume_trace(np.array(values).reshape(-1, len(corner)), corner)
    return [{**row, "hypervolume": float(volume)} for row, volume in zip(rows, volumes, strict=True)]
