"""The functions that read, list and write; each is at home in `posix` or, for a URI, in `objects`.

Those that write raise StorageUnavailable when the disk or the object store does not do what it is asked for.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import trainables.storage.objects as objects
import trainables.storage.posix as posix
from trainables.storage.paths import FileInfo, StoragePath

BATCH = 500
"""Files of an object store that are held in memory at a time: ten rounds of `objects.AT_ONCE`."""


def read_bytes(path: StoragePath) -> bytes:
    """Returns the content of a file.

    Raises:
        FileNotFoundError: there is nothing.
        IsADirectoryError, NotADirectoryError: there is something else.
        StorageUnavailable: it cannot be read.
    """
    return posix.read_bytes(path) if isinstance(path, Path) else objects.read_bytes(path)


def read_start(path: StoragePath, length: int) -> bytes:
    """Returns the first bytes of a file, one or more; fewer if it is shorter. Errors are those of `read_bytes`."""
    return posix.read_start(path, length) if isinstance(path, Path) else objects.read_start(path, length)


def read_many(paths: Iterable[StoragePath]) -> Iterator[bytes | OSError]:
    """Yields the content of each file, in order; for what is no file, the error that `read_bytes` raises.

    Files of an object store are read at the same time. Raises StorageUnavailable when a file cannot be read.
    """
    wanted = iter(paths)
    while batch := list(itertools.islice(wanted, BATCH)):
        remote = iter(objects.read_many([path for path in batch if not isinstance(path, Path)]))
        for path in batch:
            yield _read(path) if isinstance(path, Path) else next(remote)


def exists(path: StoragePath) -> bool:
    """Whether there is a file or folder; a folder of an object store is there while something is in it.

    Raises StorageUnavailable when it cannot be looked for.
    """
    return posix.exists(path) if isinstance(path, Path) else objects.exists(path)


def is_published(folder: StoragePath, markers: Collection[str]) -> bool:
    """Whether a folder was published: it has one of the markers or, on a disk, is there at all.

    Raises StorageUnavailable when it cannot be looked for.
    """
    return published([folder], markers) == [folder]


def published(folders: Iterable[StoragePath], markers: Collection[str]) -> list[StoragePath]:
    """Returns those of the folders that were published; an object store is asked for all at the same time.

    Raises StorageUnavailable when a folder cannot be looked for.
    """
    asked = list(folders)
    remote = [folder for folder in asked if not isinstance(folder, Path)]
    contents = read_many(folder / marker for folder in remote for marker in markers)
    found = {folder for folder in remote if any([isinstance(next(contents), bytes) for _ in markers])}
    return [folder for folder in asked if (posix.is_folder(folder) if isinstance(folder, Path) else folder in found)]


def names(folder: StoragePath, pattern: str) -> list[str]:
    """Returns the sorted names of what matches below a folder; none where there is no folder.

    In an object store only files have names, and everything below the folder is listed. Raises StorageUnavailable
    when the folder cannot be listed.

    Args:
        folder: to look into.
        pattern: of the shell, such as "*.json" or "*/test.json".
    """
    return posix.names(folder, pattern) if isinstance(folder, Path) else objects.names(folder, pattern)


def files_by_folder(folder: StoragePath) -> dict[str, list[FileInfo]]:
    """Returns the files directly in each subfolder, by the subfolder's name; none where there is no folder.

    Raises StorageUnavailable when a folder cannot be listed.
    """
    return posix.files_by_folder(folder) if isinstance(folder, Path) else objects.files_by_folder(folder)


def stamps(folder: StoragePath) -> dict[str, str]:
    """Returns for all that is directly in a folder, by its name, a text that is another one when it was changed.

    It is made of size and times of change on a disk, and of the ETag in an object store: nothing is read. Raises
    StorageUnavailable when the folder cannot be listed.
    """
    return posix.stamps(folder) if isinstance(folder, Path) else objects.stamps(folder)


def subfolders(folder: StoragePath) -> list[str]:
    """Returns the sorted names of the folders directly in a folder; none where there is no folder.

    Raises StorageUnavailable when the folder cannot be listed.
    """
    return posix.subfolders(folder) if isinstance(folder, Path) else objects.subfolders(folder)


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


def sha256(content: bytes) -> str:
    """Returns the SHA-256 of some bytes as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes | OSError:
    """Returns the content of a file, or the error that says that there is none."""
    try:
        return posix.read_bytes(path)
    except posix.NO_FILE as err:
        return err
