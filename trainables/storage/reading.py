"""The functions that read and list; each is at home in `posix` or, for a URI, in `objects`."""

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from trainables.storage import objects, posix
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


def subfolders(folder: StoragePath) -> list[str]:
    """Returns the sorted names of the folders directly in a folder; none where there is no folder.

    Raises StorageUnavailable when the folder cannot be listed.
    """
    return posix.subfolders(folder) if isinstance(folder, Path) else objects.subfolders(folder)


def sha256(content: bytes) -> str:
    """Returns the SHA-256 of some bytes as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes | OSError:
    """Returns the content of a file, or the error that says that there is none."""
    try:
        return posix.read_bytes(path)
    except posix.NO_FILE as err:
        return err
