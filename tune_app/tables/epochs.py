"""The epochs of an experiment as a table: one row per epoch of every stage, each stage once, however many share it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trainables.config import stage_of_kind
from trainables.storage import StoragePath
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import find_record, read_records
from tune_app.stages.histories import History, finished_histories
from tune_app.tables.columns import CATALOG
from tune_app.terminal.progress import doing, note
from tune_app.terminal.quantities import show_count

if TYPE_CHECKING:
    import pandas as pd

BASELINE, TEACHER = "baseline", "teacher"
SCHEMA = {column.name: column.type for column in CATALOG["epochs"]}
"""What stages of ours write of an epoch, after what names the stage; columns of other stages follow."""


@dataclass
class StageUse:
    """A stage of an experiment, and the trials that use it."""

    key: str
    kind: str
    """Its kind as records have it; a network of its own to distill from is called `teacher`."""
    parent: str | None
    first: TrialRecord | None
    """The first of the trials that use it, in order of proposal; None: the baseline, before a trial has ended."""
    trials: int = 0


def epoch_frame(experiment: str | StoragePath, trial: str = "") -> "pd.DataFrame":
    """Reads one row per epoch of the baseline and of each finished stage of the trials that have ended.

    The stages come in the order of their first use.

    `experiment` is a folder or URI, `trial` the label or id of one trial, or `baseline`; empty: all.

    Raises:
        ConfigError: the folder holds no experiment, or no such trial.
        CorruptFile: the stored baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    import pandas as pd

    folder = ExperimentFolder.existing(experiment)
    baseline = require_baseline(folder)
    records = read_records(folder)
    uses = stage_uses(records, baseline_key=baseline.key)
    if not uses:
        uses = {baseline.key: StageUse(baseline.key, folder.read_spec().base.baseline.kind, None, None)}
    keys = set(uses)
    if trial == BASELINE:
        keys = {baseline.key}
    elif trial:
        keys = {stage.key for stage in find_record(folder, trial, records).result.stages}
    stages = [use for key, use in uses.items() if key in keys]
    with doing("reading epochs"):
        histories = finished_histories(folder.stages, (stage.key for stage in stages))
    table = epoch_table(stages, histories)
    absent = [stage for stage in stages if stage.key not in histories and stage_of_kind(stage.kind).SCHEDULE]
    if absent:
        some = f"{len(absent):,} of {show_count(len(stages), 'stage')}"
        note(f"no epochs of {some}: they failed, were removed by the cache, or ran in another experiment")
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def after_the_epochs(experiment: str | StoragePath, trial: str) -> dict[str, float]:
    """Returns what a trial's validation accuracy became after its last epoch, in order, by what was done.

    It is empty for the baseline, and for a trial without a packed file.

    Raises:
        ConfigError: there is no such experiment or trial.
        StorageUnavailable: a file cannot be read.
    """
    folder = ExperimentFolder.existing(experiment)
    found = None if trial == BASELINE else find_record(folder, trial).result.measurement
    if found is None:
        return {}
    return {"batch norm measured again": found.accuracy_trained, "packed and decoded": found.accuracy}


def stage_uses(records: Iterable[TrialRecord], *, baseline_key: str) -> dict[str, StageUse]:
    """Returns the stages of these trials by key, in the order of their first use; one that failed is among them."""
    found: dict[str, StageUse] = {}
    for record in sorted(records, key=lambda r: (r.assignment.number, r.assignment.attempt)):
        kinds = {stage.key: stage.kind for stage in record.result.stages}
        parent: str | None = None
        for key, kind in kinds.items():
            teaches = stage_of_kind(kind).STARTS and key != baseline_key
            use = found.setdefault(key, StageUse(key, TEACHER if teaches else kind, None, record))
            use.trials += 1
            if not teaches:
                use.parent, parent = use.parent or parent, key
    return found


def epoch_table(stages: Sequence[StageUse], histories: Mapping[str, History]) -> pa.Table:
    """Returns the epochs of the stages whose histories are known."""
    rows = [row for stage in stages for row in _rows(stage, histories.get(stage.key, []))]
    numbers = {name for row in rows for name, value in row.items() if isinstance(value, int | float)}
    schema = pa.schema({**SCHEMA, **dict.fromkeys(sorted(numbers - {*SCHEMA}), pa.float64())})
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _rows(stage: StageUse, history: History) -> list[dict[str, Any]]:
    """Returns the epochs of a stage; of what it logs, the numbers."""
    work = None if stage.first is None else stage.first.assignment
    about = {
        **{"stage_key": stage.key, "stage": stage.kind, "parent_key": stage.parent, "trials": stage.trials},
        **{"trial_id": work and work.trial_id, "label": work.label if work else BASELINE},
    }
    return [
        {**{name: value for name, value in row.items() if isinstance(value, int | float)}, **about}
        | {"epoch": i, "epoch_of_step": row.get("epoch")}
        for i, row in enumerate(history, 1)
    ]
