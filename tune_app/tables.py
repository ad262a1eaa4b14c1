"""The tables of an experiment: one row per trial, derived from the ledger, written as parquet.

They are for reading, by this package or by any other tool; when they are missing, damaged or behind the
ledger they are built again.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.config import digest
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.storage import StoragePath, names, read_bytes, replace
from tune_app.baseline import read_baseline
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.held_out import held_out_accuracies
from tune_app.ledger import Ledger, TrialRecord, latest
from tune_app.repeats import Group, frontier, frontier_volume, group_runs
from tune_app.rows import rows, schema_of

SCHEMA = "4"
CHECKSUM = b"tune_app.sha256"


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
    groups = group_runs(records, spec)
    trials = _table(records, groups, spec, held_out_accuracies(folder), reference)
    place = {trial_id: i for i, trial_id in enumerate(trials["trial_id"].to_pylist())}
    front = frontier(groups, spec)
    members = trials.take(pa.array([place[group.first.assignment.trial_id] for group in front], pa.int64()))
    volume = frontier_volume(front, spec, reference)
    extra = {"tune_app.hypervolume": repr(volume), "tune_app.reference": json.dumps(dict(reference))}
    replace(folder.trials_table, _encode(trials))
    replace(folder.frontier_table, _encode(members.replace_schema_metadata({**trials.schema.metadata, **extra})))


def read_table(path: StoragePath) -> pa.Table:
    """A table that `write_tables` wrote, proven to hold what was written.

    Parquet's page checksums leave its headers and its footer (column names, hypervolume) unprotected, so
    the footer carries a checksum of the content as well.

    Raises:
        FileNotFoundError: there is no such file.
        StorageUnavailable: the file cannot be read.
        CorruptFile: it is damaged, foreign, or of another schema version.
    """
    try:
        content = read_bytes(path)
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
        if same_spec and set(ids) == _newest_ids(_trial_ids(folder)):
            return table
    records = latest(Ledger(folder.trials).read()[0])
    baseline = read_baseline(folder)
    reference = None if baseline is None else baseline.reference(spec)
    return _table(records, group_runs(records, spec), spec, held_out_accuracies(folder), reference)


def _table(
    records: Sequence[TrialRecord],
    groups: Sequence[Group],
    spec: ExperimentSpec,
    test_accuracy: Mapping[str, float],
    reference: Mapping[str, float] | None,
) -> pa.Table:
    schema = schema_of(records, spec).with_metadata(_provenance(spec))
    found = rows(records, groups, spec, test_accuracy=test_accuracy, reference=reference)
    return pa.Table.from_pylist(found, schema=schema)


def _provenance(spec: ExperimentSpec) -> dict[bytes, bytes]:
    """What decided the content besides the records."""
    return {
        b"tune_app.schema": SCHEMA.encode(),
        b"tune_app.experiment": spec.name.encode(),
        b"tune_app.objectives": json.dumps(spec.objectives).encode(),
        b"tune_app.constraints": json.dumps([str(c) for c in spec.constraints]).encode(),
    }


def _trial_ids(folder: ExperimentFolder) -> list[str]:
    return [name.removesuffix(".json") for name in names(folder.trials, "*.json")]


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
