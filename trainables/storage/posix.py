"""Files in a folder of this machine, or on a disk that machines share.

The rule everywhere: write a draft in the same folder, fsync it, rename it, fsync the folder.
"""

import contextlib
import errno
import fnmatch
import itertools
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from trainables.errors import ConfigError, StorageUnavailable
from trainables.storage.paths import FileInfo

DRAFT = ".draft-"
"""The start of the name of what is not in its place yet."""
FULL, CLOSED = {errno.ENOSPC, errno.EDQUOT}, {errno.EACCES, errno.EPERM, errno.EROFS}
"""The numbers of errors that say that a disk is full, and that a folder may not be written."""
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""The numbers of errors that say that there is nothing of a name."""


def create_once(path: Path, content: bytes) -> bool:
    """Links a draft into its place; False when there is a file already."""
    with _explained("write", path, writing=True):
        with _draft(path, content, durable=True) as draft:
            try:
                os.link(draft, path)
            except FileExistsError:
                return False
        _fsync(path.parent)
        return True


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Renames a draft into its place."""
    with _explained("write", path, writing=True):
        with _draft(path, content, durable=durable) as draft:
            os.replace(draft, path)
        if durable:
            _fsync(path.parent)


def publish_folder(files: dict[str, bytes], target: Path) -> bool:
    """Renames a draft folder into its place; False when there is a folder already."""
    draft = _draft_name(target)
    with _explained("write", target, writing=True):
        try:
            _make_durable(target.parent)
            draft.mkdir()
            for name, content in files.items():
                (draft / name).write_bytes(content)
                _fsync(draft / name)
            _fsync(draft)
            try:
                draft.rename(target)
            except OSError:
                if target.is_dir():
                    return False
                raise
            _fsync(target.parent)
            return True
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def append_line(path: Path, value: object) -> None:
    """Appends a line by a single O_APPEND write, so that lines of several processes do not mix.

    A line whose end was lost with the power ends here.
    """
    with _explained("append to", path, writing=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            line = ("\n" * _is_torn(handle) + json.dumps(value) + "\n").encode()
            while line:  # once, unless the disk is full: it takes what it has room for, and refuses the rest
                line = line[os.write(handle, line) :]
        finally:
            os.close(handle)


def read_bytes(path: Path) -> bytes:
    """Reads a whole file; what is no file keeps its own error."""
    with _explained("read", path, passing=NO_FILE):
        return path.read_bytes()


def read_start(path: Path, length: int) -> bytes:
    """Reads the first bytes of a file; errors are those of `read_bytes`."""
    with _explained("read", path, passing=NO_FILE), path.open("rb") as file:
        return file.read(length)


def exists(path: Path) -> bool:
    """Whether there is something of this name; what may not be looked at is not taken for absent."""
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """Whether there is a folder of this name; what may not be looked at is not taken for absent."""
    return stat.S_ISDIR(_mode(path) or 0)


def names(folder: Path, pattern: str) -> list[str]:
    """Returns the names below a folder that match a pattern, sorted; none where there is no folder."""
    with _explained("list", folder):
        return sorted(_matching(str(folder), pattern.split("/")))


def files_by_folder(folder: Path) -> dict[str, list[FileInfo]]:
    """Returns the files of each subfolder, from one listing for each."""
    with _explained("list", folder):
        return {entry.name: list(_files(entry.path)) for entry in _entries(str(folder)) if entry.is_dir()}


def stamps(folder: Path) -> dict[str, str]:
    """Returns size and times of change of all that is in a folder, from one listing; nothing without a folder."""
    with _explained("list", folder):
        found = dict[str, str]()
        for entry in _entries(str(folder)):
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                about = entry.stat()
                # Copies and backups set the first time as they like, and nobody the second.
                found[entry.name] = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"
        return found


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted; none where there is no folder."""
    with _explained("list", folder):
        return sorted(entry.name for entry in _entries(str(folder)) if entry.is_dir())


def remove(path: Path) -> None:
    """Removes a file; an absent one is fine."""
    with _explained("remove", path):
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Renames a folder, so that it disappears whole, then removes it; an absent one is fine."""
    draft = _draft_name(folder)
    with _explained("remove", folder), contextlib.suppress(FileNotFoundError):
        folder.rename(draft)
    shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path, *, older_than_s: float) -> None:
    """Removes drafts at any depth, as far as possible, unless they were changed a moment ago."""
    newest = time.time() - older_than_s
    for root, folders, files in os.walk(folder):
        for draft in [Path(root, name) for name in [*folders, *files] if name.startswith(DRAFT)]:
            with contextlib.suppress(OSError):  # another user's
                if all(changed <= newest for changed in _changes(draft)):
                    shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
        folders[:] = [name for name in folders if not name.startswith(DRAFT)]


def move(path: Path, target: Path) -> None:
    """Moves a file or a folder; one that is gone is fine."""
    with _explained("move", path), contextlib.suppress(FileNotFoundError):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


@contextlib.contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yields the name of a draft for a file that is too large to be held in memory; it is in its place at the end.

    Nothing is left of a draft where writing fails.
    """
    draft = _draft_name(path)
    with _explained("write", path, writing=True):
        _make_durable(path.parent)
        try:
            yield draft
            _fsync(draft)
            os.replace(draft, path)
            _fsync(path.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(
    action: str, path: Path, *, writing: bool = False, passing: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Turns what goes wrong while something is done with a path into one line, except for some errors."""
    try:
        yield
    except passing:
        raise
    except OSError as err:
        said = f"cannot {action} {path}: {err.strerror}."
        if err.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"{said} Give a shorter name.") from err
        raise StorageUnavailable(f"{said}{_way_out(err.errno) if writing else ''}") from err


def _way_out(number: int | None) -> str:
    """Returns what helps where a file could not be written."""
    if number in FULL:
        return " Free space or choose another storage folder; the same command then goes on."
    if number in CLOSED:
        return " Change the rights of the folder or choose another one; the same command then goes on."
    return " Choose another storage folder; the same command then goes on."


def _mode(path: Path) -> int | None:
    """Returns the kind and rights of what is there, or None."""
    with _explained("look for", path), _nothing_is_fine():
        return path.stat().st_mode
    return None


@contextlib.contextmanager
def _nothing_is_fine() -> Iterator[None]:
    """Ends the block without an error when it says that there is nothing of a name."""
    try:
        yield
    except OSError as err:
        if err.errno not in NOTHING:
            raise


def _is_torn(handle: int) -> bool:
    """Whether the last line of an open file has no end; one that another writer is still at is waited for, 1 s at most.

    A disk shows a line that lies on two pages in two steps.
    """
    for _ in range(100):
        length = os.fstat(handle).st_size
        if length == 0 or os.pread(handle, 1, length - 1) == b"\n":
            return False
        time.sleep(0.01)
    return True


def _fsync(path: Path) -> None:
    """Makes the content of a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_durable(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, each of them safe from a loss of power."""
    missing = list(itertools.takewhile(lambda place: not place.is_dir(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        _fsync(made.parent)


def _draft_name(path: Path) -> Path:
    """Returns a name of its own beside a path."""
    return path.parent / f"{DRAFT}{uuid.uuid4().hex}"


@contextlib.contextmanager
def _draft(path: Path, content: bytes, *, durable: bool) -> Iterator[Path]:
    """Writes a draft beside a path, and removes it at the end unless it was renamed."""
    _make_durable(path.parent)
    draft = _draft_name(path)
    try:
        with draft.open("xb") as file:
            file.write(content)
        if durable:
            _fsync(draft)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Returns what is in a folder; nothing where there is no folder."""
    with _nothing_is_fine(), os.scandir(folder) as found:
        return list(found)
    return []


def _changes(draft: Path) -> Iterator[float]:
    """Yields when a draft and what is in it were changed, in seconds since the epoch."""
    for path in (draft, *(draft / entry.name for entry in _entries(str(draft)))):
        with contextlib.suppress(FileNotFoundError):  # its writer is alive
            yield path.lstat().st_mtime


def _files(folder: str) -> Iterator[FileInfo]:
    """Yields the files in a folder."""
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            if entry.is_file():
                about = entry.stat()
                yield FileInfo(entry.name, about.st_size, about.st_mtime)


def _matching(folder: str, parts: list[str]) -> Iterator[str]:
    """Yields names below a folder whose parts match; a part without wildcards is looked up, not listed."""
    first, rest = parts[0], parts[1:]
    if not rest and not set(first) & set("*?["):
        found = [first] if os.path.lexists(f"{folder}/{first}") else []
    else:
        found = fnmatch.filter((entry.name for entry in _entries(folder)), first)
    for name in found:
        yield from (f"{name}/{below}" for below in _matching(f"{folder}/{name}", rest)) if rest else [name]
