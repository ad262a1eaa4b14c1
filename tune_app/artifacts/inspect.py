"""What a packed file holds: the report of a file by its path, or of a trial's file by its label."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, exists, read_bytes, storage_path
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import find_trial, verified_artifact
from tune_app.terminal.progress import doing

if TYPE_CHECKING:
    from trainables.export.inspect import FileReport


def inspect_path(place: str | StoragePath, *, batch: int = 1, index_bits: int = 3) -> "FileReport":
    """Returns the report of a packed file, by its path or URI.

    Raises:
        ConfigError: there is no such file.
        CorruptFile: it is truncated, altered, or no packed file.
    """
    path = storage_path(place)
    try:
        content = read_bytes(path)
    except OSError as err:
        if exists(ExperimentFolder(path).spec_file):
            raise ConfigError(f"{path} is an experiment: name one of its trials too.") from err
        why = err.strerror or "no such file"
        raise ConfigError(f"cannot read {path}: {why}. Give the path of a model.mbq.") from err
    return _report(content, str(path), batch, index_bits)


def inspect_trial(
    experiment: str | StoragePath, trial: str, *, batch: int = 1, index_bits: int = 3
) -> tuple[str, "FileReport"]:
    """Returns label and report of a trial's packed file; the trial is named as in `find_trial`.

    Raises:
        ConfigError: there is no such experiment, or the name fits no complete trial.
        CorruptFile: the artifact is not what was written.
    """
    folder = ExperimentFolder.existing(experiment)
    record = find_trial(folder, trial)
    label = record.assignment.label
    return label, _report(verified_artifact(record, folder), label, batch, index_bits)


def _report(content: bytes, source: str, batch: int, index_bits: int) -> "FileReport":
    """Decodes a file into its report; `source` is what an error calls it."""
    with doing("decoding"):
        from trainables.export.inspect import inspect_file

        try:
            return inspect_file(content, batch=batch, index_bits=index_bits)
        except CorruptFile as err:
            raise CorruptFile(f"{source}: {err}. Give the path of a whole model.mbq.") from err
