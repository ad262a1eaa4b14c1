"""The tables of an experiment: one row per trial, derived from the ledger, written as parquet.

They are for reading, by this package or by any other tool; when they are missing, damaged or behind the
ledger they are built again.
"""

import contextlib
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.errors import CorruptFile, StorageUnavailable
from trainables.storage import StoragePath, read_bytes, replace
from tune_app.frontier.points import PointRuns, frontier, frontier_volume, group_runs
from tune_app.ledger.baseline import BaselineInfo, read_baseline, require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.ledger.reading import packed_ids, read_records
from tune_app.ledger.test_results import held_out_results
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.point_rows import PARAMETERS
from tune_app.tables.sealed_parquet import check_table, checksum_of, encode_table
from tune_app.tables.trial_rows import parameter_types, schema_of, trial_rows
from tune_app.terminal.progress import doing

SCHEMA = "10"
ENOUGH = 3
"""How often a driver without a lease makes tables again beside one that is alive."""


def write_tables(
    lease: Lease, records: Sequence[TrialRecord], spec: ExperimentSpec, *, reference: Mapping[str, float]
) -> dict[str, str]:
    """Replaces trials.parquet and frontier.parquet of the experiment that a lease is of, each in one step.

    Whoever lost the lease meanwhile may have replaced newer tables: then they are made again of what is stored by now.

    Args:
        lease: held by the caller.
        records: the latest attempts of each configuration and rung.
        spec: decides what is on the frontier.
        reference: the point that bounds the hypervolume, by objective, in the objective's units.

    Returns:
        The checksum that each file carries, by its name.

    Raises:
        LeaseHeld: another driver has taken over, before or while the tables were written.
        CorruptFile: a test result or the baseline is not what was written.
        StorageUnavailable: the folder cannot be written.
    """
    lease.check()
    written = _replace_tables(lease, _tables(lease, records, spec, reference=reference))
    try:
        if not lease.is_held:
            _write_what_is_stored(lease)
    finally:
        lease.check()
    return written


def read_table(path: StoragePath) -> pa.Table:
    """Reads a table that `write_tables` wrote, and proves that it holds what was written.

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
    return decode_table(content, name=str(path))


def decode_table(content: bytes, *, name: str) -> pa.Table:
    """Reads a table from the content of a file that `write_tables` wrote, and proves that it holds what was written.

    Raises:
        CorruptFile: it is damaged, foreign, or of another schema version.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        entries = dict(file.metadata.metadata or {})
        check_version(name, entries)
        check_table(io.BytesIO(content), name=name)
        return _read(file).replace_schema_metadata(entries)
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as err:
        problem = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise CorruptFile(f"{name}: not readable as a table ({problem[:200]})") from err


def _read(file: pq.ParquetFile, columns: list[str] | None = None) -> pa.Table:
    """Reads in this thread: one of Arrow's own that lets the content go while the interpreter ends would abort it."""
    return file.read(columns=columns, use_threads=False)


def rows_without_record(folder: ExperimentFolder) -> list[str]:
    """Returns the labels of the trials that trials.parquet has and the ledger has no file of: somebody removed it.

    A table that cannot be read names none.

    Raises:
        StorageUnavailable: the table or the ledger cannot be read.
    """
    known = Ledger(folder.trials).ids()
    return [label for trial_id, label, _ in _rows(folder) if trial_id not in known]


def rows_without_file(folder: ExperimentFolder) -> list[str]:
    """Returns the labels of the complete trials in trials.parquet whose packed file is gone.

    A table that cannot be read names none.

    Raises:
        StorageUnavailable: the artifacts cannot be listed.
    """
    there = packed_ids(folder)
    return [label for trial_id, label, state in _rows(folder) if state == "complete" and trial_id not in there]


def _rows(folder: ExperimentFolder) -> Iterable[tuple[str, str, str]]:
    """Returns id, label and state of every row of trials.parquet; none of a table that cannot be read."""
    columns = ["trial_id", "label", "state"]
    try:
        table = _read(pq.ParquetFile(pa.BufferReader(read_bytes(folder.trials_table))), columns)
    except (FileNotFoundError, pa.ArrowException, OSError, ValueError):
        return []
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def load_trials(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> pa.Table:
    """Returns the table of these trials, the newest records of the ledger; nothing is written.

    trials.parquet answers when it is intact, was made for the stored spec and baseline, and holds the attempts of
    these records; so a sweep that runs shows its newest trials. Otherwise the rows are built from the records and from
    the test results.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    spec, baseline = folder.read_spec(), read_baseline(folder)
    reference = None if baseline is None else baseline.reference(spec)
    ids = {record.assignment.trial_id for record in records}
    with contextlib.suppress(FileNotFoundError, CorruptFile):
        table = read_table(folder.trials_table)
        same_spec = table.schema.metadata.items() >= _provenance(spec, reference).items()
        if same_spec and set(table["trial_id"].to_pylist()) == ids:
            return table
    with doing("comparing trials"):
        return _table(folder, records, spec, reference=reference, baseline=baseline)[0]


def _tables(
    lease: Lease, records: Sequence[TrialRecord], spec: ExperimentSpec, *, reference: Mapping[str, float]
) -> tuple[pa.Table, pa.Table]:
    """Returns the table of all trials and that of the frontier, with what their footers say."""
    folder = lease.folder
    trials, front = _table(folder, records, spec, reference=reference, baseline=read_baseline(folder))
    place = {trial_id: i for i, trial_id in enumerate(trials["trial_id"].to_pylist())}
    members = trials.take(pa.array([place[group.first.assignment.trial_id] for group in front], pa.int64()))
    volume = frontier_volume(front, spec, reference)
    footer = {**trials.schema.metadata, b"tune_app.generation": str(lease.generation).encode()}
    return trials.replace_schema_metadata(footer), members.replace_schema_metadata(
        {**footer, b"tune_app.hypervolume": repr(volume).encode()}
    )


def _replace_tables(lease: Lease, tables: tuple[pa.Table, pa.Table]) -> dict[str, str]:
    """Writes both tables; returns the checksum that each file carries."""
    written = dict[str, str]()
    for path, table in zip((lease.folder.trials_table, lease.folder.frontier_table), tables, strict=True):
        content = encode_table(table)
        replace(path, content)
        written[path.name] = checksum_of(content)
    return written


def _write_what_is_stored(lease: Lease) -> None:
    """Writes the tables of what is stored, again and again until that is the same after they were written.

    While another driver is alive a few times are enough: it writes the last tables itself.
    """
    folder, written = lease.folder, dict[str, str]()
    for times in itertools.count():
        if times >= ENOUGH and Lease(folder).is_taken:
            return
        spec, records, baseline = folder.read_spec(), read_records(folder), require_baseline(folder)
        tables = _tables(lease, records, spec, reference=baseline.reference(spec))
        before, written = written, _replace_tables(lease, tables)
        if written == before:
            return


def _table(
    folder: ExperimentFolder,
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    *,
    reference: Mapping[str, float] | None,
    baseline: BaselineInfo | None,
) -> tuple[pa.Table, list[PointRuns]]:
    """Returns the table of all trials, and the points of the frontier, which are found once."""
    groups = group_runs(records, spec)
    front = frontier(groups, spec)
    tested, accuracy = held_out_results(folder), None if baseline is None else baseline.accuracy
    rows = trial_rows(records, groups, front, spec, tested=tested, reference=reference, baseline_accuracy=accuracy)
    parameters = {PARAMETERS: json.dumps(list(parameter_types(records, spec))).encode()}
    schema = schema_of(records, spec).with_metadata({**_provenance(spec, reference), **parameters})
    return pa.Table.from_pylist(rows, schema=schema), front


def _provenance(spec: ExperimentSpec, reference: Mapping[str, float] | None) -> dict[bytes, bytes]:
    """Returns the metadata that say what decided the content besides the records; nothing of an unknown reference."""
    corner = {} if reference is None else {b"tune_app.reference": json.dumps(dict(reference)).encode()}
    return corner | {
        b"tune_app.schema": SCHEMA.encode(),
        b"tune_app.experiment": spec.name.encode(),
        b"tune_app.objectives": json.dumps(spec.objectives).encode(),
        b"tune_app.constraints": json.dumps([str(c) for c in spec.constraints]).encode(),
        b"tune_app.space": spec.space.model_dump_json().encode(),
    }


def check_version(name: str, entries: Mapping[bytes, bytes]) -> None:
    """Raises CorruptFile if a table's metadata are of another schema than this version reads."""
    version = entries.get(b"tune_app.schema", b"none").decode(errors="replace")
    if version != SCHEMA:
        raise CorruptFile(f"{name}: table schema {version}, this version reads {SCHEMA}")
