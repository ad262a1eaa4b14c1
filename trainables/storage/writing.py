"""The functions that write; each is at home in `posix` or, for a URI, in `objects`.

All of them raise StorageUnavailable when the disk or the object store does not do what it is asked for.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from trainables.storage import objects, posix
from trainables.storage.paths import StoragePath


def create_once(path: StoragePath, content: bytes) -> bool:
    """Creates a file that never changes again; False when it exists already (nothing is written then).

    Raises StorageUnavailable when the folder cannot be written.
    """
    return posix.create_once(path, content) if isinstance(path, Path) else objects.create_once(path, content)


def require_create_once(path: StoragePath, content: bytes) -> None:
    """Proves on a file that was just created that an object store refuses to create it again.

    Raises StorageUnavailable when the store has no conditional writes, so that two processes could both be the first.
    """
    if not isinstance(path, Path):
        objects.require_create_once(path, content)


def replace(path: StoragePath, content: bytes, *, durable: bool = True) -> None:
    """Replaces a file by new content in one step; what is not durable may be lost with the machine's power.

    Raises StorageUnavailable when the folder cannot be written.
    """
    posix.replace(path, content, durable=durable) if isinstance(path, Path) else objects.replace(path, content)


def replace_json(path: StoragePath, value: object, *, durable: bool = True) -> None:
    """Replaces a file by a value as indented JSON, as `replace` does it."""
    replace(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), durable=durable)


def publish_folder(files: dict[str, bytes], target: StoragePath, *, marker: str) -> bool:
    """Makes a folder appear with all its files at once; False when another writer was first.

    Raises StorageUnavailable when the parent folder cannot be written.

    Args:
        files: content by name.
        target: the folder.
        marker: one of the files. In an object store it is written last, and a folder without it counts as absent.
    """
    if isinstance(target, Path):
        return posix.publish_folder(files, target)
    return objects.publish_folder(files, target, marker)


def append_line(path: StoragePath, value: object) -> None:
    """Appends a JSON line to a file. In an object store it is an object of its own, and the file's stem a folder.

    `log.jsonl` becomes `log/<nanoseconds since the epoch>-<random>.json`. Raises StorageUnavailable when the file
    cannot be written.
    """
    posix.append_line(path, value) if isinstance(path, Path) else objects.append_line(path, value)


def remove(path: StoragePath) -> None:
    """Removes a file; an absent one is fine. Raises StorageUnavailable when it cannot be removed."""
    posix.remove(path) if isinstance(path, Path) else objects.remove(path)


def remove_folder(folder: StoragePath, *, markers: Collection[str]) -> None:
    """Removes a published folder: it disappears whole, in an object store with its marker. An absent one is fine.

    Raises StorageUnavailable when it cannot be removed.
    """
    posix.remove_folder(folder) if isinstance(folder, Path) else objects.remove_folder(folder, markers)


def remove_tree(folder: StoragePath) -> None:
    """Removes a folder and what is in it as far as possible; what cannot be removed stays."""
    shutil.rmtree(folder, ignore_errors=True) if isinstance(folder, Path) else objects.remove_tree(folder)


def remove_drafts(folder: StoragePath, *, older_than_s: float) -> None:
    """Removes what writers that were killed left below a folder of a disk; an object store has nothing of that kind.

    Drafts that were changed in the last `older_than_s` seconds may have a writer that is alive, and stay.
    """
    if isinstance(folder, Path):
        posix.remove_drafts(folder, older_than_s=older_than_s)


def move(path: StoragePath, target: StoragePath, *, markers: Collection[str] = ()) -> None:
    """Moves a file, or a published folder with its marker first, within a storage. One that is gone is fine.

    Raises StorageUnavailable when it cannot be moved.
    """
    if isinstance(path, Path):
        assert isinstance(target, Path), "a move stays in its storage"
        posix.move(path, target)
    else:
        assert not isinstance(target, Path), "a move stays in its storage"
        objects.move(path, target, markers)
