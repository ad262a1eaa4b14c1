"""The records of an experiment as commands read them: the newest of each configuration and rung, with a bar."""

from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Damaged, Ledger, TrialRecord, latest
from tune_app.terminal.progress import counted, note


def read_records(folder: ExperimentFolder) -> list[TrialRecord]:
    """In order of proposal; what is damaged is left out, and named to people.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    records, damaged = read_ledger(folder)
    for file in damaged:
        note(f"left out: {file.problem}")
    return records


def read_ledger(folder: ExperimentFolder) -> tuple[list[TrialRecord], list[Damaged]]:
    """As `read_records`, and the files that are no records, of which nobody is told.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    ledger = Ledger(folder.trials)
    records, damaged = ledger.read(watch=lambda files, total: counted(files, "reading trials", total=total))
    return latest(records), damaged
