"""The tables of an experiment: one row per trial, derived from the ledger, written as parquet.

They are for reading, by this package or by any other tool; when they are missing, damaged or behind the
ledger they are built again.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.config import digest
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.results import Completed
from trainables.storage import replace
from tune_app.baseline import read_baseline
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.held_out import held_out_accuracies
from tune_app.ledger import Ledger, TrialRecord, latest
from tune_app.repeats import Group, frontier, frontier_contributions, frontier_volume, group_runs, probabilities

SCHEMA = "3"
CHECKSUM = b"tune_app.sha256"

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
GROUPED = {
    "repeats": pa.int64(),
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
}


def rows(
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    *,
    test_accuracy: Mapping[str, float] | None = None,
    reference: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """One row per record, all with the same columns in the same order; None where nothing is known.

    A parameter is a column of its own name. Rows of the full rung say what all runs of their point say together:
    `<objective>_mean` and `<objective>_sd` (sample standard deviation) over its `repeats` complete runs, whether
    the means are `feasible`, and `p_non_dominated`, how likely no other feasible point dominates its true means.
    `hypervolume_contribution` is what a row of the frontier alone adds to its hypervolume.
    `size_<part>` are the bytes of a part of the packed file, `formula_<name>_bytes` what an earlier system's size
    formula makes of the network, `seconds_<kind>` what the stages of a kind cost this trial (a cache hit costs the
    time of reading).

    Args:
        records: the latest attempt of each configuration and rung, as `ledger.latest` gives them.
        spec: for the parameters, objectives and constraints.
        test_accuracy: by trial_id, for the trials whose accuracy on the test split is known.
        reference: the corner of the hypervolume, by objective; None: contributions stay unknown.
    """
    groups = group_runs(records, spec)
    front = frontier(groups, spec)
    members = {group.first.assignment.trial_id for group in front}
    gains = {} if reference is None else _contributions(front, spec, reference)
    together = _together(groups, spec)
    schema = _schema(records, spec)
    names = {field.name for field in schema if field.type == pa.string()}
    found = [_row(r, spec, on_frontier=r.assignment.trial_id in members) for r in records]
    for row in found:
        row |= together.get(row["trial_id"], {})
        row["test_accuracy"] = (test_accuracy or {}).get(row["trial_id"])
        row["hypervolume_contribution"] = gains.get(row["trial_id"])
    return [{n: _text(row.get(n)) if n in names else row.get(n) for n in schema.names} for row in found]


def frontier_ids(records: Sequence[TrialRecord], spec: ExperimentSpec) -> list[str]:
    """The trials of the full rung that are on the frontier, each standing for all runs of its point.

    In the order of `repeats.frontier`.
    """
    return [group.first.assignment.trial_id for group in frontier(group_runs(records, spec), spec)]


def write_tables(
    folder: ExperimentFolder,
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    *,
    reference: Mapping[str, float],
) -> None:
    """Replaces trials.parquet and frontier.parquet, each in one step.

    Args:
        folder: where they go.
        records: the latest attempt of each configuration and rung.
        spec: the experiment's spec.
        reference: the point that bounds the hypervolume, by objective, in the objective's units.

    Raises:
        CorruptFile: a test result is not what was written.
        StorageUnavailable: the folder cannot be written.
    """
    trials = _table(records, spec, held_out_accuracies(folder), reference)
    place = {trial_id: i for i, trial_id in enumerate(trials["trial_id"].to_pylist())}
    front = frontier(group_runs(records, spec), spec)
    members = trials.take(pa.array([place[group.first.assignment.trial_id] for group in front], pa.int64()))
    volume = frontier_volume(front, spec, reference)
    extra = {"tune_app.hypervolume": repr(volume), "tune_app.reference": json.dumps(dict(reference))}
    replace(folder.trials_table, _encode(trials))
    replace(folder.frontier_table, _encode(members.replace_schema_metadata({**trials.schema.metadata, **extra})))


def read_table(path: Path) -> pa.Table:
    """A table that `write_tables` wrote, proven to hold what was written.

    Parquet's page checksums leave its headers and its footer (column names, hypervolume) unprotected, so
    the footer carries a checksum of the content as well.

    Raises:
        FileNotFoundError: there is no such file.
        StorageUnavailable: the file cannot be read.
        CorruptFile: it is damaged, foreign, or of another schema version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as err:
        raise StorageUnavailable(f"cannot read {path}: {err.strerror}.") from err
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        # Arrow's own copy of the schema would shadow the entries that other readers see.
        metadata = {k: v for k, v in (file.metadata.metadata or {}).items() if k != b"ARROW:schema"}
        table = file.read().replace_schema_metadata(metadata)
        version = metadata.get(b"tune_app.schema", b"none").decode()
        intact = metadata.get(CHECKSUM, b"").decode() == _checksum(table)
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as err:
        problem = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise CorruptFile(f"{path}: not readable as a table ({problem[:200]})") from err
    if version != SCHEMA:
        raise CorruptFile(f"{path}: table schema {version}, this version reads {SCHEMA}")
    if not intact:
        raise CorruptFile(f"{path}: the checksum does not match the content")
    return table


def load_trials(folder: ExperimentFolder) -> pa.Table:
    """The table of all trials as the ledger has them now; nothing is written.

    trials.parquet answers when it is intact, was made for the stored spec, and holds the same attempts as
    the ledger's file names; so a sweep that runs shows its newest trials. Otherwise the rows are built
    from the ledger and the test results.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    spec = folder.read_spec()
    with contextlib.suppress(FileNotFoundError, CorruptFile):
        table = read_table(folder.trials_table)
        ids = table["trial_id"].to_pylist()
        same_spec = table.schema.metadata.items() >= _provenance(spec).items()
        if same_spec and set(ids) == _newest_ids(p.stem for p in folder.trials.glob("*.json")):
            return table
    records, _ = Ledger(folder.trials).read()
    baseline = read_baseline(folder)
    reference = None if baseline is None else baseline.reference(spec)
    return _table(latest(records), spec, held_out_accuracies(folder), reference)


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
    }
    for stage in result.stages:
        row[f"seconds_{stage.kind}"] = row.get(f"seconds_{stage.kind}", 0.0) + stage.seconds
    if isinstance(result, Completed):
        found = result.measurement
        row |= found.model_dump(exclude={"size_breakdown", "formula_bytes", "split"})
        row |= {f"size_{part}": size for part, size in found.size_breakdown.items()}
        row |= {f"formula_{name}_bytes": size for name, size in found.formula_bytes.items()}
        row["artifact_sha256"] = result.artifact_sha256
    return row


def _together(groups: Sequence[Group], spec: ExperimentSpec) -> dict[str, dict[str, Any]]:
    """By trial id what the runs of its point say together; nothing for a point without a usable result."""
    found: dict[str, dict[str, Any]] = {}
    for group, probability in zip(groups, probabilities(groups, spec), strict=True):
        if not group.mean:
            continue
        shared: dict[str, Any] = {"repeats": len(group.complete), "p_non_dominated": probability}
        for name in spec.objectives:
            shared |= {f"{name}_mean": group.mean[name], f"{name}_sd": group.sd.get(name)}
        for run in group.runs.values():
            found[run.assignment.trial_id] = {**shared, "feasible": run.state == "complete" and group.feasible}
    return found


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


def _schema(records: Sequence[TrialRecord], spec: ExperimentSpec) -> pa.Schema:
    """Types come from the names, never from the values, so that a column of nulls keeps its type."""
    measured = [r.result.measurement for r in records if isinstance(r.result, Completed)]
    parts = sorted({part for m in measured for part in m.size_breakdown})
    formulas = sorted({name for m in measured for name in m.formula_bytes})
    planned: list[str] = [stage.kind for stage in spec.base.stages()]
    kinds = dict.fromkeys([*planned, *(stage.kind for r in records for stage in r.result.stages)])
    columns = {
        **HEAD,
        **_param_types(records, spec),
        **MEASURED,
        **{f"{name}_{kind}": pa.float64() for name in spec.objectives for kind in ("mean", "sd")},
        **GROUPED,
        **{f"size_{part}": pa.int64() for part in parts},
        **{f"formula_{name}_bytes": pa.int64() for name in formulas},
        "seconds": pa.float64(),
        **{f"seconds_{kind}": pa.float64() for kind in kinds},
        **TAIL,
    }
    return pa.schema(list(columns.items()))


def _contributions(front: Sequence[Group], spec: ExperimentSpec, reference: Mapping[str, float]) -> dict[str, float]:
    """By trial id of the frontier."""
    gains = frontier_contributions(front, spec, reference)
    return {group.first.assignment.trial_id: gain for group, gain in zip(front, gains, strict=True)}


def _table(
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    test_accuracy: Mapping[str, float],
    reference: Mapping[str, float] | None,
) -> pa.Table:
    schema = _schema(records, spec).with_metadata(_provenance(spec))
    found = rows(records, spec, test_accuracy=test_accuracy, reference=reference)
    return pa.Table.from_pylist(found, schema=schema)


def _provenance(spec: ExperimentSpec) -> dict[bytes, bytes]:
    """What decided the content besides the records."""
    return {
        b"tune_app.schema": SCHEMA.encode(),
        b"tune_app.experiment": spec.name.encode(),
        b"tune_app.objectives": json.dumps(spec.objectives).encode(),
        b"tune_app.constraints": json.dumps([str(c) for c in spec.constraints]).encode(),
    }


def _feasible(record: TrialRecord, spec: ExperimentSpec) -> bool:
    metrics = record.metrics()
    return bool(metrics) and all(c.violation(metrics[c.metric]) <= 0 for c in spec.constraints)


def _newest_ids(trial_ids: Iterable[str]) -> set[str]:
    """Of trial ids `<configuration>-<rung>-a<attempt>`, the newest attempt of each; foreign names stay."""
    newest: dict[str, tuple[int, str]] = {}
    for trial_id in trial_ids:
        work, _, attempt = trial_id.rpartition("-a")
        ranked = (int(attempt), trial_id) if attempt.isdecimal() else (0, trial_id)
        newest[work] = max(newest.get(work, ranked), ranked)
    return {trial_id for _, trial_id in newest.values()}


def _encode(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    named = table.replace_schema_metadata({**table.schema.metadata, CHECKSUM: _checksum(table).encode()})
    pq.write_table(named, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def _checksum(table: pa.Table) -> str:
    """SHA-256 of names, types, values and metadata; not of how the file stores them."""
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items() if k != CHECKSUM}
    return digest([metadata, [[f.name, str(f.type)] for f in table.schema], table.to_pydict()])
