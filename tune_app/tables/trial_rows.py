"""The rows of an experiment's tables: one per trial, with columns whose names and types follow from the spec."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa

from trainables.config import stage_of_kind
from trainables.results import Completed, StageRun
from tune_app.frontier.chance import probabilities
from tune_app.frontier.objectives import is_feasible
from tune_app.frontier.points import Group, frontier, frontier_contributions
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import ExperimentSpec

HEAD = {
    "trial_id": pa.string(),
    "number": pa.int64(),
    "label": pa.string(),
    "rung": pa.string(),
    "state": pa.string(),
    "reason": pa.string(),
    "attempt": pa.int64(),
    "repeat": pa.int64(),
    "seed": pa.int64(),
    "on_frontier": pa.bool_(),
    "feasible": pa.bool_(),
}
MEASURED = {
    "accuracy": pa.float64(),
    "accuracy_drop": pa.float64(),
    "accuracy_trained": pa.float64(),
    "test_accuracy": pa.float64(),
    "n": pa.int64(),
    "size_bytes": pa.int64(),
    "compression_ratio": pa.float64(),
    "parameters": pa.int64(),
    "prune_frac_achieved": pa.float64(),
    "sparsity_achieved": pa.float64(),
    "macs": pa.int64(),
    "bops": pa.int64(),
    "activation_bytes": pa.int64(),
    "peak_activation_bytes": pa.int64(),
    "onnx_size_bytes": pa.int64(),
    "onnx_accuracy": pa.float64(),
    "onnx_failure": pa.string(),
}
STAGED = {
    "accuracy_pruned": pa.float64(),
    "accuracy_fine_tuned": pa.float64(),
    "accuracy_sparsified": pa.float64(),
    "prune_frac_requested": pa.float64(),
    "sparsity_requested": pa.float64(),
    "sparsity_reached": pa.float64(),
    "stopped_early": pa.bool_(),
}
GROUPED = {
    "repeats": pa.int64(),
    "test_accuracy_mean": pa.float64(),
    "test_accuracy_sd": pa.float64(),
    "p_non_dominated": pa.float64(),
    "hypervolume_contribution": pa.float64(),
}
TAIL = {
    "stages_cached": pa.int64(),
    "config_key": pa.string(),
    "artifact_sha256": pa.string(),
    "started_at": pa.string(),
    "code_version": pa.string(),
    "host": pa.string(),
    "device": pa.string(),
    "gpu_share": pa.float64(),
    "gpu_peak_share": pa.float64(),
    "out_of_memory": pa.int64(),
    "taken_from": pa.string(),
}


def rows(
    records: Sequence[TrialRecord],
    groups: Sequence[Group],
    spec: ExperimentSpec,
    *,
    test_accuracy: Mapping[str, float] | None = None,
    reference: Mapping[str, float] | None = None,
    baseline_accuracy: float | None = None,
) -> list[dict[str, Any]]:
    """One row per record, all with the same columns in the same order; None where nothing is known.

    A parameter is a column of its own name. A trial that was refused after its file was measured has what was measured
    too. `accuracy_drop` is against the baseline; the columns of STAGED say how its stages ended. Rows of the full rung
    say what all runs of their point say together: `<objective>_mean` and `<objective>_sd` (sample standard deviation)
    over its `repeats` complete runs, the same of `test_accuracy` once all of them were evaluated, whether the means are
    `feasible`, and `p_non_dominated`, how likely no other feasible point dominates its true means.
    `hypervolume_contribution` is what a row of the frontier alone adds to its hypervolume.
    `size_<part>` are the bytes of a part of the packed file, `formula_<name>_bytes` what an earlier system's size
    formula makes of the network, `seconds_<kind>` what the stages of a kind cost this trial (a cache hit costs the
    time of reading). `gpu_share` of a GPU was the trial's, `gpu_peak_share` of its memory the most that it reserved,
    after memory had not been enough `out_of_memory` times.

    Args:
        records: the latest attempt of each configuration and rung, as `ledger.latest` gives them.
        groups: their `group_runs`.
        spec: for the parameters, objectives and constraints.
        test_accuracy: by trial_id, for the trials whose accuracy on the test split is known.
        reference: the corner of the hypervolume, by objective; None: contributions stay unknown.
        baseline_accuracy: on the validation split; None: drops stay unknown.
    """
    front = frontier(groups, spec)
    members = {group.first.assignment.trial_id for group in front}
    gains = {} if reference is None else _contributions(front, spec, reference)
    together = _together(groups, spec, test_accuracy or {})
    schema = schema_of(records, spec)
    names = {field.name for field in schema if field.type == pa.string()}
    found = [_row(r, spec, on_frontier=r.assignment.trial_id in members) for r in records]
    for row in found:
        row |= together.get(row["trial_id"], {})
        row["test_accuracy"] = (test_accuracy or {}).get(row["trial_id"])
        row["hypervolume_contribution"] = gains.get(row["trial_id"])
        if baseline_accuracy is not None and "accuracy" in row:
            row["accuracy_drop"] = baseline_accuracy - row["accuracy"]
    return [{n: _text(row.get(n)) if n in names else row.get(n) for n in schema.names} for row in found]


def schema_of(records: Sequence[TrialRecord], spec: ExperimentSpec) -> pa.Schema:
    """Names and types of the columns.

    Types come from the names, never from the values, so that a column of nulls keeps its type.
    """
    measured = [r.result.measurement for r in records if r.result.measurement is not None]
    parts = sorted({part for m in measured for part in m.size_breakdown})
    formulas = sorted({name for m in measured for name in m.formula_bytes})
    planned: list[str] = [stage.kind for stage in spec.base.stages()]
    kinds = dict.fromkeys([*planned, *(stage.kind for r in records for stage in r.result.stages)])
    columns = {
        **HEAD,
        **_param_types(records, spec),
        **MEASURED,
        **STAGED,
        **{name: pa.float64() for kind in kinds for name in stage_of_kind(kind).COLUMNS.values() if name not in STAGED},
        **{f"{name}_{kind}": pa.float64() for name in spec.objectives for kind in ("mean", "sd")},
        **GROUPED,
        **{f"size_{part}": pa.int64() for part in parts},
        **{f"formula_{name}_bytes": pa.int64() for name in formulas},
        "seconds": pa.float64(),
        **{f"seconds_{kind}": pa.float64() for kind in kinds},
        **TAIL,
    }
    return pa.schema(list(columns.items()))


def _row(record: TrialRecord, spec: ExperimentSpec, *, on_frontier: bool) -> dict[str, Any]:
    work, result = record.assignment, record.result
    row: dict[str, Any] = {
        **work.params,
        "trial_id": work.trial_id,
        "number": work.number,
        "label": work.label,
        "rung": work.rung,
        "state": record.state,
        "reason": record.reason,
        "attempt": work.attempt,
        "repeat": work.repeat,
        "seed": work.seed,
        "on_frontier": on_frontier,
        "feasible": _feasible(record, spec),
        "seconds": record.seconds,
        "stages_cached": sum(stage.cached for stage in result.stages),
        "config_key": work.config_key,
        "started_at": record.started_at,
        "code_version": record.environment.get("tune_app"),
        "host": record.environment.get("host"),
        "device": record.environment.get("device"),
        "gpu_share": record.gpu_share,
        "gpu_peak_share": record.gpu_peak_share,
        "out_of_memory": record.out_of_memory,
        "taken_from": record.taken_from or None,
    }
    for stage in result.stages:
        row[f"seconds_{stage.kind}"] = row.get(f"seconds_{stage.kind}", 0.0) + stage.seconds
        row |= _staged(stage)
    found = result.measurement
    if found is not None:
        row |= found.model_dump(exclude={"size_breakdown", "formula_bytes", "split"})
        row |= {f"size_{part}": size for part, size in found.size_breakdown.items()}
        row |= {f"formula_{name}_bytes": size for name, size in found.formula_bytes.items()}
    if isinstance(result, Completed):
        row["artifact_sha256"] = result.artifact_sha256
    return row


def _staged(stage: StageRun) -> dict[str, float | bool]:
    columns = stage_of_kind(stage.kind).COLUMNS
    values = {columns[name]: value for name, value in stage.metrics.items() if name in columns}
    return {name: bool(value) if STAGED.get(name) == pa.bool_() else value for name, value in values.items()}


def _together(
    groups: Sequence[Group], spec: ExperimentSpec, test_accuracy: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """By trial id what the runs of its point say together; nothing for a point without a usable result."""
    found: dict[str, dict[str, Any]] = {}
    for group, probability in zip(groups, probabilities(groups, spec), strict=True):
        if not group.mean:
            continue
        shared: dict[str, Any] = {"repeats": len(group.complete), "p_non_dominated": probability}
        for name in spec.objectives:
            shared |= {f"{name}_mean": group.mean[name], f"{name}_sd": group.sd.get(name)}
        shared |= _tested([test_accuracy.get(run.assignment.trial_id) for run in group.complete])
        for run in group.runs.values():
            found[run.assignment.trial_id] = {**shared, "feasible": run.state == "complete" and group.feasible}
    return found


def _tested(accuracies: Sequence[float | None]) -> dict[str, float]:
    """Of the runs of a point; nothing before all were evaluated on the test split."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if len(known) < len(accuracies):
        return {}
    spread = {"test_accuracy_sd": stdev(known)} if len(known) > 1 else {}
    return {"test_accuracy_mean": fmean(known), **spread}


def _contributions(front: Sequence[Group], spec: ExperimentSpec, reference: Mapping[str, float]) -> dict[str, float]:
    """By trial id of the frontier."""
    gains = frontier_contributions(front, spec, reference)
    return {group.first.assignment.trial_id: gain for group, gain in zip(front, gains, strict=True)}


def _feasible(record: TrialRecord, spec: ExperimentSpec) -> bool:
    return is_feasible(record.metrics(), spec)


def _text(value: object) -> str | None:
    """A value of a text column: also a number among names, and a message with bytes that are no text."""
    return None if value is None else str(value).encode(errors="replace").decode()


def _param_types(records: Iterable[TrialRecord], spec: ExperimentSpec) -> dict[str, pa.DataType]:
    values: dict[str, list[float | int | str]] = {n: list(p.values) for n, p in spec.space.root.items()}
    for record in records:
        for name, value in record.assignment.params.items():
            values.setdefault(name, []).append(value)
    return {name: _type_of(found) for name, found in values.items()}


def _type_of(values: Iterable[float | int | str]) -> pa.DataType:
    kinds = {type(v) for v in values}
    if str in kinds:
        return pa.string()
    return pa.int64() if kinds == {int} else pa.float64()
