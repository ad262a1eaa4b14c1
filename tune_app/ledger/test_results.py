"""Results on the held-out test split: one small file beside each evaluated network, written once."""

from trainables.config import sealed, unsealed
from trainables.errors import CorruptFile
from trainables.results import Count, Scores
from trainables.storage import StoragePath, create_once, names, read_many
from tune_app.ledger.folder import ExperimentFolder

NAME = "test.json"


class HeldOut(Scores):
    """The scores of a network on the test split, and the number of images they were read on."""

    n: Count


def read_held_out(folder: StoragePath) -> HeldOut | None:
    """Reads the result in a network's folder; None when it was not evaluated.

    Raises:
        CorruptFile: the file is not what was written.
    """
    [content] = read_many([folder / NAME])
    return None if isinstance(content, FileNotFoundError) else _decode(folder, content)


def store_held_out(folder: StoragePath, result: HeldOut) -> HeldOut:
    """Writes a result; the first one stays.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    create_once(folder / NAME, sealed(result))
    return result


def tested_ids(folder: ExperimentFolder) -> list[str]:
    """Returns the sorted ids of the trials that have a result on the test split; nothing of it is read.

    Raises:
        StorageUnavailable: the artifacts cannot be listed.
    """
    return [name.partition("/")[0] for name in names(folder.artifacts, f"*/{NAME}")]


def held_out_results(folder: ExperimentFolder) -> dict[str, HeldOut]:
    """Reads the results on the test split by trial id, of the trials that were evaluated on it.

    Raises:
        CorruptFile: a file is not what was written.
    """
    places = [folder.artifacts / trial_id for trial_id in tested_ids(folder)]
    found = read_many(place / NAME for place in places)
    return {
        place.name: _decode(place, content)
        for place, content in zip(places, found, strict=True)
        if isinstance(content, bytes)
    }


def _decode(folder: StoragePath, content: bytes | OSError) -> HeldOut:
    try:
        if isinstance(content, OSError):
            raise content
        return unsealed(content, HeldOut)
    except (OSError, ValueError, RecursionError) as err:
        raise CorruptFile(f"{folder / NAME} is damaged: delete it and finalize again.") from err
