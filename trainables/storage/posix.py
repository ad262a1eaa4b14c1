"""Files in a folder of this machine, or on a disk that machines share.

The rule everywhere: write a draft in the same folder, fsync it, rename it, fsync the folder.
"""

import contextlib
import errno
import fnmatch
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from trainables.errors import StorageUnavailable
from trainables.storage.info import FileInfo

DRAFT = ".draft-"
ROOM = " Free space or choose another storage folder; the same command then goes on."
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors that say that there is nothing of a name."""


def create_once(path: Path, content: bytes) -> bool:
    """Links a draft into its place."""
    with _explained("write", path, ROOM):
        draft = _draft(path, content, durable=True)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        _fsync_folder(path.parent)
        return True


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Renames a draft into its place."""
    with _explained("write", path, ROOM):
        draft = _draft(path, content, durable=durable)
        try:
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if durable:
            _fsync_folder(path.parent)


def publish_folder(files: dict[str, bytes], target: Path) -> bool:
    """Renames a draft folder into its place; False when there is a folder already."""
    draft = _draft_name(target)
    with _explained("write", target, ROOM):
        try:
            draft.mkdir(parents=True)
            for name, content in files.items():
                (draft / name).write_bytes(content)
                with (draft / name).open("rb") as file:
                    os.fsync(file.fileno())
            _fsync_folder(draft)
            try:
                draft.rename(target)
            except OSError:
                if target.is_dir():
                    return False
                raise
            _fsync_folder(target.parent)
            return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def append_line(path: Path, value: object) -> None:
    """Lines of several processes do not mix: each is a single O_APPEND write."""
    with _explained("append to", path, ROOM):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(value) + "\n").encode())
        finally:
            os.close(handle)


def read_bytes(path: Path) -> bytes:
    """The content; what is no file keeps its own error."""
    try:
        return path.read_bytes()
    except NO_FILE:
        raise
    except OSError as err:  # perhaps for a moment only
        raise StorageUnavailable(f"cannot read {path}: {err.strerror}.") from err


def read_start(path: Path, length: int) -> bytes:
    """The first bytes; errors are those of `read_bytes`."""
    try:
        with path.open("rb") as file:
            return file.read(length)
    except NO_FILE:
        raise
    except OSError as err:
        raise StorageUnavailable(f"cannot read {path}: {err.strerror}.") from err


def exists(path: Path) -> bool:
    """What may not be looked at is not taken for absent."""
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """Likewise."""
    return stat.S_ISDIR(_mode(path) or 0)


def names(folder: Path, pattern: str) -> list[str]:
    """Sorted; none where there is no folder."""
    with _explained("list", folder):
        return sorted(_matching(str(folder), pattern.split("/")))


def files_by_folder(folder: Path) -> dict[str, list[FileInfo]]:
    """One listing for each subfolder."""
    with _explained("list", folder):
        return {entry.name: list(_files(entry.path)) for entry in _entries(str(folder)) if entry.is_dir()}


def subfolders(folder: Path) -> list[str]:
    """Sorted; none where there is no folder."""
    with _explained("list", folder):
        return sorted(entry.name for entry in _entries(str(folder)) if entry.is_dir())


def remove(path: Path) -> None:
    """An absent file is fine."""
    with _explained("remove", path):
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Renamed first, so that it disappears whole."""
    draft = _draft_name(folder)
    with _explained("remove", folder):
        try:
            folder.rename(draft)
        except FileNotFoundError:
            return
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path, *, older_than_s: float) -> None:
    """At any depth, as far as possible."""
    newest = time.time() - older_than_s
    for root, folders, files in os.walk(folder):
        for draft in [Path(root, name) for name in [*folders, *files] if name.startswith(DRAFT)]:
            if all(changed <= newest for changed in _changes(draft)):
                shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
        folders[:] = [name for name in folders if not name.startswith(DRAFT)]


def move(path: Path, target: Path) -> None:
    """A file or a folder; one that is gone is fine."""
    with _explained("move", path), contextlib.suppress(FileNotFoundError):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


@contextlib.contextmanager
def _explained(action: str, path: Path, way_out: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise StorageUnavailable(f"cannot {action} {path}: {err.strerror}.{way_out}") from err


def _mode(path: Path) -> int | None:
    """Kind and rights of what is there, or None."""
    with _explained("look for", path):
        try:
            return path.stat().st_mode
        except OSError as err:
            if err.errno in NOTHING:
                return None
            raise


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft_name(path: Path) -> Path:
    return path.parent / f"{DRAFT}{uuid.uuid4().hex}"


def _draft(path: Path, content: bytes, *, durable: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_name(path)
    try:
        with draft.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as err:
        if err.errno in NOTHING:
            return []
        raise


def _changes(draft: Path) -> Iterator[float]:
    """When it and what is in it were changed, in seconds since the epoch."""
    for path in (draft, *(draft / entry.name for entry in _entries(str(draft)))):
        with contextlib.suppress(FileNotFoundError):  # its writer is alive
            yield path.lstat().st_mtime


def _files(folder: str) -> Iterator[FileInfo]:
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            if entry.is_file():
                about = entry.stat()
                yield FileInfo(entry.name, about.st_size, about.st_mtime)


def _matching(folder: str, parts: list[str]) -> Iterator[str]:
    """Names below a folder whose parts match; a part without wildcards is looked up, not listed."""
    first, rest = parts[0], parts[1:]
    if not rest and not set(first) & set("*?["):
        found = [first] if os.path.lexists(f"{folder}/{first}") else []
    else:
        found = fnmatch.filter((entry.name for entry in _entries(folder)), first)
    for name in found:
        if rest:
            yield from (f"{name}/{below}" for below in _matching(f"{folder}/{name}", rest))
        else:
            yield name
