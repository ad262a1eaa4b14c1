"""Holds ledger, packed files, tables and stage cache of an experiment against each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainables.errors import CorruptFile
from trainables.stages.cache import StageCache
from trainables.storage import StoragePath
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.ledger.reading import made_again_by, packed_ids, without_file
from tune_app.tables.trials import read_table
from tune_app.terminal.progress import track


@dataclass(frozen=True)
class Problem:
    """A file that is gone, or does not say what the ledger says, and the way out."""

    path: StoragePath
    text: str
    """One line."""


def cross_check(folder: ExperimentFolder, records: Sequence[TrialRecord], *, stages: bool) -> list[Problem]:
    """Returns what is missing or differs between the parts of an experiment; nothing is written.

    The newest records that are complete must have a packed file, every row of the tables a record with its numbers. A
    table that is behind the ledger is no problem, nor a stage that is not in the cache any more: a search that runs,
    or the next one, makes them.

    Args:
        folder: the experiment, finished or not.
        records: the newest ones of its ledger.
        stages: also read every stage of the cache, and compare it with its checksums.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    found = [
        Problem(
            folder.packed_file(record.assignment.trial_id),
            f"the packed file of {record.assignment.label} is gone: {made_again_by(folder, record.assignment.label)}",
        )
        for record in without_file(folder, records)
    ]
    for path in (folder.trials_table, folder.frontier_table):
        found += (Problem(path, f"{path}: {text}") for text in _wrong_rows(path, folder, records))
    if stages:
        found += _damaged_stages(folder)
    return found


def without_record(folder: ExperimentFolder) -> list[str]:
    """Returns the ids of packed files of which there is no record: their trials run, or were cut off."""
    files = packed_ids(folder)
    return sorted(files - Ledger(folder.trials).ids())


def _wrong_rows(path: StoragePath, folder: ExperimentFolder, records: Sequence[TrialRecord]) -> Iterator[str]:
    """Says of a table which of its rows have no record, or one with other numbers."""
    try:
        rows = read_table(path).to_pylist()
    except FileNotFoundError:
        return
    except CorruptFile as err:
        yield f"{str(err).removeprefix(f'{path}: ')}: the next `tune-app run` writes it again"
        return
    by_id = {record.assignment.trial_id: record for record in records}
    stored = Ledger(folder.trials).ids()  # after the rows: a search that runs writes a record before its row
    for row in rows:
        trial_id, label = row["trial_id"], row["label"]
        if trial_id not in stored:
            yield f"it has {label} ({trial_id}), whose record is gone: the trial may run again"
        elif (record := by_id.get(trial_id)) is not None:  # else it is damaged, or there is a newer attempt
            for name, value in record.metrics().items():
                if row.get(name, value) != value:
                    way_out = "the next `tune-app run` writes the table again"
                    yield f"{name} of {label} is {row[name]}, and {value} in its record: {way_out}"


def _damaged_stages(folder: ExperimentFolder) -> Iterator[Problem]:
    """Reads the whole stage cache, and names the stages that are not what was written."""
    cache = StageCache(folder.stages)
    keys = cache.keys()
    for key in track(keys, "reading stages", total=len(keys)):
        if problem := cache.damage(key):
            yield Problem(folder.stages / key, f"{problem}: a trial that needs this stage makes it again")
