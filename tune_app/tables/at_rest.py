"""What is known of an experiment while its files stay as they are, so that nobody has to read all of its records."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from trainables.config import Frozen, digest, sealed, unsealed
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.printable import Printable
from trainables.storage import StoragePath, read_bytes, read_start, replace, sha256, stamps
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder, stored_text
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.ledger.test_results import held_out_results
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.sealed_parquet import SEAL_BYTES, check_table, checksum_of
from tune_app.tables.totals import Totals, totals_of
from tune_app.tables.trials import check_version, decode_table, load_trials, write_tables

RULES = 4
"""The number of the rules by which totals and tables are made; those of other rules are made again."""


class AtRest(Frozen):
    """The totals of an experiment, and the state of the files that they were made of."""

    made_by: Printable = Field(description="version of this package, and of its rules")
    spec: Printable = Field(description="SHA-256 of the stored spec's file")
    baseline: Printable = Field(description="SHA-256 of the baseline's file")
    ledger: Printable = Field(description="`ledger_state` before the records were read, each of which was whole")
    tested: Printable = Field(description="SHA-256 of the results on the test split")
    tables: dict[Printable, Printable] = Field(description="the checksum that each table carries, by its file's name")
    totals: Totals


@dataclass(frozen=True)
class Known:
    """What is known of an experiment: what its trials add up to, and the table of all of them."""

    totals: Totals
    trials: pa.Table


@dataclass(frozen=True)
class TableFile:
    """A table's file that is current; whether it is whole, `check` says."""

    path: Path
    columns: list[str]

    def check(self) -> None:
        """Reads the file once, and raises CorruptFile if its checksum says that it is not what was written."""
        with self.path.open("rb") as file:
            check_table(file, name=str(self.path))


def ledger_state(folder: ExperimentFolder) -> str:
    """Returns a text that is another one once a record's file came, went or was changed; nothing is read.

    Raises:
        StorageUnavailable: the ledger cannot be listed.
    """
    found = sorted(f"{name} {stamp}" for name, stamp in stamps(folder.trials).items() if name.endswith(".json"))
    return sha256("\n".join(found).encode())


def settle(
    lease: Lease,
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    totals: Totals,
    *,
    reference: Mapping[str, float],
    seen: str | None,
) -> None:
    """Writes the tables of an experiment in which nothing runs any more, and remembers its totals.

    Args:
        lease: held by the caller.
        records: the newest attempts of each configuration and rung.
        spec: by which they were counted.
        totals: of these records.
        reference: the point that bounds the hypervolume, by objective.
        seen: the `ledger_state` from before the records were read, if all of them were whole; None: some were not,
            and nothing is remembered, as nothing is of an experiment without a usable result.

    Raises:
        LeaseHeld: another driver has taken over.
        CorruptFile: a test result or the baseline is not what was written.
        StorageUnavailable: the tables cannot be written.
    """
    folder, tables = lease.folder, write_tables(lease, records, spec, reference=reference)
    if seen is not None and totals.trials.get("complete"):
        note = AtRest(
            made_by=_made_by(),
            spec=sha256(stored_text(spec)),
            baseline=_digest(folder.baseline_file),
            ledger=seen,
            tested=_tested(folder),
            tables=tables,
            totals=totals,
        )
        with contextlib.suppress(StorageUnavailable):  # then the records are read again the next time
            replace(folder.totals_file, sealed(note), durable=False)


def recall(folder: ExperimentFolder) -> Known | None:
    """Returns what was known of an experiment if all is as it was then; None: its records must be read.

    Spec, baseline, test results and both tables are compared; of the records only that nobody has touched them.

    Raises:
        CorruptFile: a test result is not what was written.
        StorageUnavailable: a file cannot be read.
    """
    note, tables = _note(folder), list[pa.Table]()
    if note is None or note.ledger != ledger_state(folder) or note.tested != _tested(folder):
        return None
    for path in (folder.trials_table, folder.frontier_table):
        try:
            content = read_bytes(path)
            tables.append(decode_table(content, name=str(path)))
        except (OSError, CorruptFile):
            return None
        if checksum_of(content) != note.tables.get(path.name):
            return None
    return Known(note.totals, tables[0])


def known_now(folder: ExperimentFolder) -> Known:
    """Returns what is known of an experiment now; a damaged record is left out, and named to people.

    Raises:
        CorruptFile: the stored spec, the baseline or a test result is damaged.
        StorageUnavailable: a file cannot be read.
    """
    if (known := recall(folder)) is not None:
        return known
    spec, baseline, records = folder.read_spec(), read_baseline(folder), read_records(folder)
    totals = totals_of(records, spec, None if baseline is None else baseline.reference(spec))
    return Known(totals, load_trials(folder, records))


def known_trials(folder: ExperimentFolder) -> pa.Table:
    """Returns the table of `known_now`, without adding anything up; errors are the same."""
    known = recall(folder)
    return load_trials(folder, read_records(folder)) if known is None else known.trials


def current_table(folder: ExperimentFolder) -> TableFile | None:
    """Finds trials.parquet on a disk if it holds what the ledger holds now; None: `known_trials` knows."""
    path = folder.trials_table
    note = _note(folder) if isinstance(path, Path) else None
    if note is None or note.ledger != ledger_state(folder):
        return None
    with contextlib.suppress(OSError, pa.ArrowException, CorruptFile, ValueError):
        if checksum_of(read_start(path, SEAL_BYTES)) == note.tables.get(path.name):
            metadata = pq.read_metadata(path)
            check_version(str(path), dict(metadata.metadata or {}))
            return TableFile(Path(str(path)), metadata.schema.names)
    return None


def _note(folder: ExperimentFolder) -> AtRest | None:
    """Reads what was remembered; None if that is nothing, damaged, or of another version, spec or baseline."""
    try:
        note = unsealed(read_bytes(folder.totals_file), AtRest, older=False)
        same = (note.spec, note.baseline) == (_digest(folder.spec_file), _digest(folder.baseline_file))
    except (OSError, ValueError, RecursionError):
        return None
    return note if same and note.made_by == _made_by() else None


def _made_by() -> str:
    return f"{version('tune-app')}, rules {RULES}"


def _digest(path: StoragePath) -> str:
    """Returns the SHA-256 of a file; empty where there is none."""
    try:
        return sha256(read_bytes(path))
    except OSError:
        return ""


def _tested(folder: ExperimentFolder) -> str:
    return digest({trial_id: result.model_dump() for trial_id, result in held_out_results(folder).items()})
