"""What is known of an experiment while its files stay as they are, so that nobody has to read all of its records."""

import contextlib
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from trainables.config import Frozen, sealed, unsealed
from trainables.errors import CorruptFile
from trainables.printable import Printable
from trainables.storage import StoragePath, read_bytes, read_start, replace, sha256, stamps
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.test_results import tested_ids
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.sealed_parquet import SEAL_BYTES, check_table, checksum_of
from tune_app.tables.totals import Totals
from tune_app.tables.trials import check_version, write_tables

QUIET_NS = 2_000_000_000
"""A ledger that did not change for two seconds has rested: so long is a tick of the coarsest clock, that of FAT."""


class LedgerState(Frozen):
    """The state of an experiment's records as a listing tells it: nothing of them is read."""

    files: Printable = Field(description="another text once a record's file came, went or was changed")
    changed_ns: int | None = Field(
        description="when the folder last changed, if it had rested since; null: it had not, or is no folder of a disk"
    )


class AtRest(Frozen):
    """The totals of an experiment, and the state of the files that they were made of."""

    version: Printable = Field(description="of the package that counted")
    spec: Printable = Field(description="SHA-256 of the stored spec's file")
    ledger: LedgerState = Field(description="from before its records were read, each of which was whole")
    tables: dict[Printable, Printable] = Field(description="the checksum that each table carries, by its file's name")
    tested: tuple[Printable, ...] = Field(description="the ids of the trials that have a test result, sorted")
    totals: Totals


@dataclass(frozen=True)
class TableFile:
    """A table's file that is current; whether it is whole, `check` says."""

    path: Path
    columns: list[str]

    def check(self) -> None:
        """Reads the file once, and raises CorruptFile if its checksum says that it is not what was written."""
        with self.path.open("rb") as file:
            check_table(file, name=str(self.path))


def ledger_state(folder: ExperimentFolder) -> LedgerState:
    """Returns the state of an experiment's records now.

    Raises:
        StorageUnavailable: the ledger cannot be listed.
    """
    changed_ns = _changed_ns(folder)  # first: what comes while files are listed changes it
    rested = changed_ns is not None and time.time_ns() - changed_ns > QUIET_NS
    return LedgerState(files=_listed(folder), changed_ns=changed_ns if rested else None)


def settle(
    lease: Lease,
    records: Sequence[TrialRecord],
    spec: ExperimentSpec,
    totals: Totals,
    *,
    reference: Mapping[str, float],
    seen: LedgerState | None,
) -> None:
    """Writes the tables of an experiment in which nothing runs any more, and remembers its totals.

    Args:
        lease: held by the caller.
        records: the newest attempts of each configuration and rung.
        spec: the stored one.
        totals: of these records.
        reference: the point that bounds the hypervolume, by objective.
        seen: the `ledger_state` from before the records were read, if all of them were whole; None: some were not,
            and nothing is remembered.

    Raises:
        LeaseHeld: another driver has taken over.
        CorruptFile: a test result or the baseline is not what was written.
        StorageUnavailable: the folder cannot be written.
    """
    folder, tables = lease.folder, write_tables(lease, records, spec, reference=reference)
    if seen is not None:
        note = AtRest(
            version=version("tune-app"),
            spec=_digest(folder.spec_file),
            ledger=seen,
            tables=tables,
            tested=tuple(tested_ids(folder)),
            totals=totals,
        )
        replace(folder.totals_file, sealed(note), durable=False)


def recall(folder: ExperimentFolder) -> Totals | None:
    """Returns the totals of an experiment if all is as it was when they were counted; None: read the records.

    Spec, records, test results and both tables are compared; of the records only that nobody has touched them.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    note = _note(folder)
    if note is None or note.ledger.files != _listed(folder) or [*note.tested] != tested_ids(folder):
        return None
    for path in (folder.trials_table, folder.frontier_table):
        try:
            content = read_bytes(path)
            check_table(io.BytesIO(content), name=str(path))
        except (FileNotFoundError, CorruptFile):
            return None
        if checksum_of(content) != note.tables.get(path.name):
            return None
    return note.totals


def current_table(folder: ExperimentFolder) -> TableFile | None:
    """Finds trials.parquet on a disk if it holds what the ledger holds now; None: `load_trials` knows.

    It is not looked for whether records were touched since, or whether the table is whole.
    """
    path, note = folder.trials_table, _note(folder)
    if note is None or not isinstance(path, Path):
        return None
    with contextlib.suppress(OSError, pa.ArrowException, CorruptFile, ValueError):
        same = note.ledger.changed_ns is not None and note.ledger.changed_ns == _changed_ns(folder)
        if (same or note.ledger.files == _listed(folder)) and _carries(path, note.tables.get(path.name)):
            metadata = pq.read_metadata(path)
            check_version(path, dict(metadata.metadata or {}))
            return TableFile(path, metadata.schema.names)
    return None


def _note(folder: ExperimentFolder) -> AtRest | None:
    """Reads what was remembered; None if that is nothing, damaged, or of another version or spec."""
    try:
        note = unsealed(read_bytes(folder.totals_file), AtRest)
        return note if (note.version, note.spec) == (version("tune-app"), _digest(folder.spec_file)) else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, RecursionError):
        return None


def _carries(path: StoragePath, checksum: str | None) -> bool:
    return checksum_of(read_start(path, SEAL_BYTES)) == checksum


def _digest(path: StoragePath) -> str:
    return sha256(read_bytes(path))


def _listed(folder: ExperimentFolder) -> str:
    found = sorted(f"{name} {stamp}" for name, stamp in stamps(folder.trials).items() if name.endswith(".json"))
    return sha256("\n".join(found).encode())


def _changed_ns(folder: ExperimentFolder) -> int | None:
    """Returns when the ledger's folder last changed: each new record changes it. None where there is no such folder."""
    trials = folder.trials
    return trials.stat().st_mtime_ns if isinstance(trials, Path) and trials.is_dir() else None
