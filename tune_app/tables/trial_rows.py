"""The rows of an experiment's tables: one per trial, with columns whose names and types follow from the spec."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa

from trainables.config import stage_of_kind
from trainables.results import SCORES, Completed, StageRun
from tune_app.frontier.chance import probabilities
from tune_app.frontier.objectives import is_feasible
from tune_app.frontier.points import PointRuns, frontier_contributions
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.test_results import HeldOut
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.columns import COLUMNS, TRIALS, expanded

OF_ASSIGNMENT = ("trial_id", "number", "label", "rung", "attempt", "repeat", "seed", "config_key")
OF_RECORD = ("state", "reason", "seconds", "started_at", "gpu_share", "gpu_peak_share", "out_of_memory")
"""Columns that are what an assignment or a record says under the same name."""


def trial_rows(
    records: Sequence[TrialRecord],
    groups: Sequence[PointRuns],
    front: Sequence[PointRuns],
    spec: ExperimentSpec,
    *,
    tested: Mapping[str, HeldOut] | None = None,
    reference: Mapping[str, float] | None = None,
    baseline_accuracy: float | None = None,
) -> list[dict[str, Any]]:
    """Returns one row per record, all with the same columns in the same order; None where nothing is known.

    docs/columns.md says what each column means. `records` are as `ledger.latest` gives them, `groups` their
    `group_runs`, `front` the `frontier` of these; `tested` holds the test results by trial id. Without a
    `reference`, the corner of the hypervolume by objective, contributions stay unknown; without a `baseline_accuracy`,
    on the validation split, drops do.
    """
    members = dict.fromkeys(group.first.assignment.trial_id for group in front)
    gains = {} if reference is None else dict(zip(members, frontier_contributions(front, spec, reference), strict=True))
    together = _together(groups, spec, tested or {})
    schema = schema_of(records, spec)
    texts = {field.name for field in schema if field.type == pa.string()}
    found = [_row(r, spec, on_frontier=r.assignment.trial_id in members) for r in records]
    for row in found:
        row |= together.get(row["trial_id"], {})
        test = (tested or {}).get(row["trial_id"])
        row |= {} if test is None else {f"test_{name}": getattr(test, name) for name in SCORES}
        row["hypervolume_contribution"] = gains.get(row["trial_id"])
        if baseline_accuracy is not None and "accuracy" in row:
            row["accuracy_drop"] = baseline_accuracy - row["accuracy"]
    return [{n: _text(row.get(n)) if n in texts else row.get(n) for n in schema.names} for row in found]


def schema_of(records: Sequence[TrialRecord], spec: ExperimentSpec) -> pa.Schema:
    """Returns names and types of the columns; types come from the names, so that a column of nulls keeps its type."""
    measured = [r.result.measurement for r in records if r.result.measurement is not None]
    parts = sorted({part for m in measured for part in m.size_breakdown})
    formulas = sorted({name for m in measured for name in m.formula_bytes})
    planned: list[str] = [stage.kind for stage in spec.base.stages()]
    kinds = dict.fromkeys([*planned, *(stage.kind for r in records for stage in r.result.stages)])
    parameters = parameter_types(records, spec)
    metrics = {name: None for kind in kinds for name in stage_of_kind(kind).COLUMNS.values() if name not in COLUMNS}
    words = {
        **{"parameter": parameters, "metric": metrics, "objective": spec.objectives},
        **{"part": parts, "name": formulas, "kind": kinds},
    }
    columns = expanded(TRIALS, words)
    return pa.schema([(column.name, column.type or parameters[column.name]) for column in columns])


def _row(record: TrialRecord, spec: ExperimentSpec, *, on_frontier: bool) -> dict[str, Any]:
    """Returns what a record alone says."""
    work, result = record.assignment, record.result
    row: dict[str, Any] = {
        **work.params,
        **{name: getattr(work, name) for name in OF_ASSIGNMENT},
        **{name: getattr(record, name) for name in OF_RECORD},
        "on_frontier": on_frontier,
        "feasible": is_feasible(record.metrics(), spec),
        "stages_cached": sum(stage.cached for stage in result.stages),
        "code_version": record.environment.get("tune_app"),
        "host": record.environment.get("host"),
        "device": record.environment.get("device"),
        "taken_from": record.taken_from or None,
    }
    for stage in result.stages:
        row[f"seconds_{stage.kind}"] = row.get(f"seconds_{stage.kind}", 0.0) + stage.seconds
        row |= _staged(stage)
    found = result.measurement
    if found is not None:
        row |= found.model_dump(exclude={"size_breakdown", "formula_bytes", "split"})
        row["pruned_compression_ratio"] = 4 * found.parameters / found.size_bytes
        row |= {f"size_{part}": size for part, size in found.size_breakdown.items()}
        row |= {f"formula_{name}_bytes": size for name, size in found.formula_bytes.items()}
    if isinstance(result, Completed):
        row["artifact_sha256"] = result.artifact_sha256
    return row


def _staged(stage: StageRun) -> dict[str, float | bool]:
    """Returns how a stage ended, by column."""
    columns = stage_of_kind(stage.kind).COLUMNS
    flags = {name for name in columns.values() if name in COLUMNS and COLUMNS[name].kind == "flag"}
    values = {columns[name]: value for name, value in stage.metrics.items() if name in columns}
    return {name: bool(value) if name in flags else value for name, value in values.items()}


def _together(
    groups: Sequence[PointRuns], spec: ExperimentSpec, tested: Mapping[str, HeldOut]
) -> dict[str, dict[str, Any]]:
    """Returns by trial id what the runs of its point say together; nothing for a point without a usable result."""
    found: dict[str, dict[str, Any]] = {}
    for group, probability in zip(groups, probabilities(groups, spec), strict=True):
        if not group.mean:
            continue
        shared: dict[str, Any] = {"repeats": len(group.complete), "p_non_dominated": probability}
        for name in spec.objectives:
            shared |= {f"{name}_mean": group.mean[name], f"{name}_sd": group.sd.get(name)}
        ids = [run.assignment.trial_id for run in group.complete]
        known = [tested[trial_id].accuracy for trial_id in ids if trial_id in tested]
        if len(known) == len(ids):  # not before all of them were evaluated
            shared["test_accuracy_mean"] = fmean(known)
            shared["test_accuracy_sd"] = stdev(known) if len(known) > 1 else None
        for run in group.runs.values():
            found[run.assignment.trial_id] = {**shared, "feasible": run.state == "complete" and group.feasible}
    return found


def _text(value: object) -> str | None:
    """Returns a value of a text column as text: a number among names, or a message with bytes that are no text."""
    return None if value is None else str(value).encode(errors="replace").decode()


def parameter_types(records: Iterable[TrialRecord], spec: ExperimentSpec) -> dict[str, pa.DataType]:
    """Returns the type of each parameter of the space or of a record: the one that holds all of its values."""
    values: dict[str, list[float | int | str]] = {n: list(p.values) for n, p in spec.space.root.items()}
    for record in records:
        for name, value in record.assignment.params.items():
            values.setdefault(name, []).append(value)
    kinds = {name: set(map(type, found)) for name, found in values.items()}
    return {n: pa.string() if str in k else pa.int64() if k == {int} else pa.float64() for n, k in kinds.items()}
