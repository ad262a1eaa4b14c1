"""Results on the held-out test split: one small file beside each evaluated network, written once."""

from pathlib import Path

from pydantic import ValidationError

from trainables.config import Frozen
from trainables.errors import CorruptFile
from trainables.storage import create_once
from tune_app.folder import ExperimentFolder

NAME = "test.json"


class HeldOut(Frozen):
    """What a network does on the test split."""

    accuracy: float
    n: int


def read_held_out(folder: Path) -> HeldOut | None:
    """The result in a network's folder, or None when it was not evaluated.

    Raises:
        CorruptFile: the file is not what was written.
    """
    try:
        return HeldOut.model_validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as err:
        raise CorruptFile(f"{folder / NAME} is damaged: delete it and finalize again.") from err


def store_held_out(folder: Path, result: HeldOut) -> HeldOut:
    """Writes a result; the first one stays.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    create_once(folder / NAME, result.model_dump_json(indent=1).encode() + b"\n")
    return result


def held_out_accuracies(folder: ExperimentFolder) -> dict[str, float]:
    """Accuracy on the test split by trial id, of the trials that were evaluated on it.

    Raises:
        CorruptFile: a file is not what was written.
    """
    found = {path.parent.name: read_held_out(path.parent) for path in folder.artifacts.glob(f"*/{NAME}")}
    return {trial_id: result.accuracy for trial_id, result in found.items() if result is not None}
