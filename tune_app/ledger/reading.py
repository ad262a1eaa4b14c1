"""The records of an experiment as commands read them: the newest of each configuration and rung, with a bar."""

from collections.abc import Callable, Iterable, Sequence

from search_spaces.rungs import FULL
from trainables.errors import ConfigError, CorruptFile, did_you_mean
from trainables.storage import names, read_bytes, sha256
from tune_app.ledger.folder import PACKED, ExperimentFolder
from tune_app.ledger.ledger import Assignment, Damaged, Ledger, TrialRecord, latest, params_label
from tune_app.terminal.progress import note
from tune_app.terminal.shell import command

SHOWN = 8
"""The most names in a message; more would bury what it says."""


def read_records(folder: ExperimentFolder) -> list[TrialRecord]:
    """Reads the newest records in order of proposal; what is damaged is left out, and named to people.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    records, damaged = read_ledger(folder)
    name_damaged(damaged)
    return records


def name_damaged(damaged: Iterable[Damaged]) -> None:
    """Names files of the ledger to people that are left out."""
    for file in damaged:
        note(f"left out: {file.problem}")


def read_ledger(folder: ExperimentFolder) -> tuple[list[TrialRecord], list[Damaged]]:
    """Reads the newest records in order of proposal, and the files that are none, of which nobody is told.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    records, damaged = Ledger(folder.trials).read(shown="reading trials")
    return latest(records), damaged


def without_file(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the complete trials whose packed file is gone, from one listing.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    there = packed_ids(folder)
    return [r for r in records if r.state == "complete" and r.assignment.trial_id not in there]


def made_again_by(folder: ExperimentFolder, label: str) -> str:
    """Returns what to do where the packed file of a trial is gone or is another one, as a part of a sentence."""
    return f"`{command('reproduce', folder.path, label)}` makes it again"


def packed_ids(folder: ExperimentFolder) -> set[str]:
    """Returns the ids of all attempts that have a packed file; StorageUnavailable if they cannot be listed."""
    return {name.partition("/")[0] for name in names(folder.artifacts, f"*/{PACKED}")}


def find_trial(folder: ExperimentFolder, name: str, records: Sequence[TrialRecord] | None = None) -> TrialRecord:
    """Finds the complete trial with this label (`p30_w4_a8`, `p30_w4_a8@ptq#2`), id, or unique start of an id.

    A label without a rung is of the full schedule, or else of the only rung that knows its point. `@full` may be
    written out, and a label that a table cut ends with `…`. `records` are those of the folder, if they were read
    already.

    Raises:
        ConfigError: no trial or several fit, or the trial has no artifact.
    """
    found = find_record(folder, name, records)
    if found.state != "complete":
        raise ConfigError(f"trial {name!r} is {found.state} ({found.reason}): it has no artifact.")
    return found


def find_record(folder: ExperimentFolder, name: str, records: Sequence[TrialRecord] | None = None) -> TrialRecord:
    """Finds a trial of any state by its label or id, as `find_trial` finds complete ones.

    Of several records of one run the newest is meant: the others are of an earlier version of a stage.

    Raises:
        ConfigError: no trial or several fit.
    """
    records = read_records(folder) if records is None else records
    found = next(filter(None, ([r for r in records if fits(name, r.assignment)] for fits in FITS)), [])
    if not found:
        labels = [r.assignment.label for r in records if r.state == "complete"]
        hint = did_you_mean(name, labels, otherwise=f"known: {some(labels) or 'none yet'}.")
        raise ConfigError(f"no trial of {folder.path} is called {name!r}; {hint}")
    run, *others = [(r.assignment.params, r.assignment.rung, r.assignment.repeat) for r in found]
    if any(other != run for other in others):
        raise ConfigError(f"{name!r} fits {some([r.assignment.trial_id for r in found])}: give one of them.")
    return max(found, key=lambda r: (r.assignment.number, r.assignment.attempt))


FITS: tuple[Callable[[str, Assignment], bool], ...] = (
    lambda name, work: name == work.label or (work.rung == FULL and name.replace(f"@{FULL}", "") == work.label),
    lambda name, work: work.repeat == 0 and name == params_label(work.params),
    lambda name, work: name != "" and work.trial_id.startswith(name),
    lambda name, work: name.endswith("…") and work.label.startswith(name[:-1]),
)
"""Ways to call a trial: its label, its point, a start of its id, a label that was cut; the first that fits counts."""


def some(labels: Sequence[str]) -> str:
    """Returns the first labels as a message names them, and how many more there are."""
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more


def verified_artifact(record: TrialRecord, folder: ExperimentFolder) -> bytes:
    """Reads a record's packed file, and makes sure that it is the one that was measured.

    Raises:
        CorruptFile: the file is missing or not the one that was measured.
    """
    path = folder.packed_file(record.assignment.trial_id)
    try:
        content = read_bytes(path)
    except OSError as err:
        raise CorruptFile(f"{path} is missing: its trial must be run again.") from err
    expected = getattr(record.result, "artifact_sha256", "")
    if sha256(content) != expected:
        raise CorruptFile(f"{path} is not the file that was measured (SHA-256 differs).")
    return content
