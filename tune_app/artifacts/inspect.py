"""What a packed file holds: the report of a file by its path, or of a trial's file by its label."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, exists, read_bytes, storage_path
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import find_trial, verified_artifact
from tune_app.terminal.progress import doing

if TYPE_CHECKING:
    from trainables.export.inspect import FileReport


def inspect_network(
    place: str | StoragePath, trial: str = "", *, batch: int = 1, index_bits: int = 3, a_bits: int | None = None
) -> tuple[str, "FileReport"]:
    """Returns title and report of a packed file: of a trial of an experiment, named as in `find_trial`, or by its path.

    Raises:
        ConfigError: there is no such file or experiment, or the name fits no complete trial; or as in `inspect_file`.
        CorruptFile: the file is truncated, altered, or no packed file.
    """
    if trial:
        folder = ExperimentFolder.existing(place)
        record = find_trial(folder, trial)
        title, content = record.assignment.label, verified_artifact(record, folder)
    else:
        title, content = str(place), _read(storage_path(place))
    try:
        with doing("decoding"):
            from trainables.export.inspect import inspect_file

            return title, inspect_file(content, batch=batch, index_bits=index_bits, a_bits=a_bits)
    except CorruptFile as err:
        raise CorruptFile(f"{title}: {err}. Give the path of a whole model.mbq.") from err


def _read(path: StoragePath) -> bytes:
    """Reads a file, or says what to give in its place."""
    try:
        return read_bytes(path)
    except OSError as err:
        if exists(ExperimentFolder(path).spec_file):
            raise ConfigError(f"{path} is an experiment: name one of its trials too.") from err
        why = err.strerror or "no such file"
        raise ConfigError(f"cannot read {path}: {why}. Give the path of a model.mbq.") from err
