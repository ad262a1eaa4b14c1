"""Files in an object store, by fsspec: each is one object, and nothing is ever renamed.

S3 and GCS list and read at once what was written. A folder is no object: it is there as long as something is in it.
"""

import contextlib
import fnmatch
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from trainables.errors import StorageUnavailable
from trainables.storage.explain import BROKEN_OFF, error_code, explained
from trainables.storage.paths import SCHEMES, FileInfo

if TYPE_CHECKING:
    from upath import UPath

CONFLICTS = 5
"""How often a conditional write is asked for when it meets another one in flight; S3 says to ask again. Larger: longer
until a store that always answers so is refused; smaller: a race that would end is given up."""
AT_ONCE = 48
"""Reads at the same time: below the 64 connections of the driver (`paths`), so that other calls find one free."""
ATTEMPTS = 3
"""How often an object is asked for whose answers break off: as often as the drivers ask a store that does not answer
(`paths.SCHEMES`). More: longer until a broken line is named; fewer: a read is given up that would have come."""
WRITE_S, SLOWEST = 28.0, 5e5
"""Seconds that a write may take, and the bytes for which it gets another one: s3fs would wait for ever for leave to
send them. A lock allows for half a minute (`lock.OBJECTS_EXPIRY_S`); half a megabyte a second is a slow line."""


def create_once(path: "UPath", content: bytes) -> bool:
    """Creates an object by a conditional write: If-None-Match on S3, generation 0 on GCS. Of several writers one wins.

    False may also mean that our own write arrived, but not the answer to it.
    """
    with explained("write", path):
        for _ in range(CONFLICTS):
            try:
                _write(path, content, mode="create")
                return True
            except OSError as err:
                if isinstance(err, FileExistsError) or error_code(err) == "PreconditionFailed":
                    return False
                if error_code(err) != "ConditionalRequestConflict":
                    raise
    raise StorageUnavailable(f"cannot write {path}: others write it at the same time. Run the same command again.")


def require_create_once(path: "UPath", content: bytes) -> None:
    """Asks to create a file that is there, and refuses a store that does so."""
    if create_once(path, content):
        raise StorageUnavailable(
            f"{path} was created twice: this object store ignores If-None-Match, so two processes could do the same "
            "work or overwrite each other. Choose one that knows conditional writes, such as AWS S3 or GCS."
        )


def replace(path: "UPath", content: bytes) -> None:
    """Writes an object by one PUT."""
    with explained("write", path):
        _write(path, content)


def publish_folder(files: dict[str, bytes], target: "UPath", marker: str) -> bool:
    """Writes the files of a folder, the marker last, so that a folder with it is whole; False when it is there."""
    if isinstance(read_many([target / marker])[0], bytes):
        return False
    for name, content in files.items():
        if name != marker:
            replace(target / name, content)
    return create_once(target / marker, files[marker])


def append_line(path: "UPath", value: object) -> None:
    """Writes a line as an object of its own; the names of lines sort by time."""
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.json"
    replace(path.with_name(path.stem) / name, (json.dumps(value) + "\n").encode())


def read_bytes(path: "UPath") -> bytes:
    """Reads an object by one GET, and again when the answer broke off."""
    with explained("read", path, absent=True):
        return _whole(path, ATTEMPTS)


def read_start(path: "UPath", length: int) -> bytes:
    """Reads the start of an object by one GET of a range, which an empty file does not have."""
    with explained("read", path, absent=True):
        try:
            return _whole(path, ATTEMPTS, start=0, end=length)
        except OSError as err:
            if error_code(err) != "InvalidRange":
                raise
            return b""


def read_many(paths: Sequence["UPath"]) -> list[bytes | OSError]:
    """Reads objects by GETs at the same time; a missing one is its error."""
    if not paths:
        return []
    keys = [path.path for path in paths]
    with explained("read", paths[0].parent):  # by ranges, all of each: `cat` takes a name with * ? [ for a pattern
        found = _call(paths[0], "cat_ranges", keys, None, None, on_error="return", batch_size=AT_ONCE)
    return [_content(path, content) for path, content in zip(paths, found, strict=True)]


def exists(path: "UPath") -> bool:
    """Whether there is an object of this name, or one below it."""
    with contextlib.suppress(FileNotFoundError), explained("look for", path, absent=True):
        _ask(path, "info")
        return True
    return False


def names(folder: "UPath", pattern: str) -> list[str]:
    """Returns the names below a folder whose parts match the pattern's, sorted."""
    parts, found = pattern.split("/"), ((name, name.split("/")) for name in _below(folder))
    return sorted(n for n, own in found if len(own) == len(parts) and all(map(fnmatch.fnmatchcase, own, parts)))


def files_by_folder(folder: "UPath") -> dict[str, list[FileInfo]]:
    """Returns the files of each subfolder, from one listing for all."""
    found: dict[str, list[FileInfo]] = defaultdict(list)
    for name, about in _below(folder).items():
        first, _, rest = name.partition("/")
        if rest and "/" not in rest:
            found[first].append(FileInfo(rest, int(about["size"]), _modified(about)))
    return dict(found)


def stamps(folder: "UPath") -> dict[str, str]:
    """Returns the ETag of each object directly in a folder; in a store without ETags its size and time of change."""
    return {
        name: str(about.get("ETag") or about.get("etag") or f"{about['size']} {_modified(about)}")
        for name, about in _below(folder).items()
        if "/" not in name
    }


def subfolders(folder: "UPath") -> list[str]:
    """Returns the names of subfolders, from one listing that does not go deeper."""
    with contextlib.suppress(FileNotFoundError), explained("list", folder, absent=True):
        entries = _ask(folder, "ls", detail=True)
        return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")
    return []


def remove(path: "UPath") -> None:
    """Removes an object; an absent one is fine."""
    with contextlib.suppress(FileNotFoundError), explained("remove", path, absent=True):
        _ask(path, "rm_file")


def remove_folder(folder: "UPath", markers: Collection[str]) -> None:
    """Removes what is below a folder, markers first, so that what is left over counts as absent."""
    for name in sorted(_below(folder), key=lambda name: name not in markers):
        remove(folder / name)


def remove_tree(folder: "UPath") -> None:
    """Removes what is below a folder as far as possible."""
    with contextlib.suppress(StorageUnavailable):
        remove_folder(folder, ())


def move(path: "UPath", target: "UPath", markers: Collection[str]) -> None:
    """Copies an object or a folder, which the store does itself, then removes what was copied."""
    inside = list(_below(path))
    for source, copy in [(path / name, target / name) for name in inside] or [(path, target)]:
        with contextlib.suppress(FileNotFoundError), explained("move", source, absent=True):
            _ask(source, "cp_file", copy.path)
    remove_folder(path, markers) if inside else remove(path)


def _below(folder: "UPath") -> dict[str, dict[str, Any]]:
    """Returns what the store tells of every object below a folder, by its name from there."""
    root, found = folder.path.rstrip("/") + "/", {}
    with contextlib.suppress(FileNotFoundError), explained("list", folder, absent=True):
        found = _ask(folder, "find", detail=True)
    # A name that ends in "/" stands for an empty folder, as consoles create them.
    files = {name: about for name, about in found.items() if name.startswith(root) and not name.endswith("/")}
    return {name.removeprefix(root): about for name, about in files.items()}


def _content(path: "UPath", found: bytes | Exception) -> bytes | OSError:
    """Returns what was read, or why there is nothing to read; an answer that broke off is asked for again."""
    if isinstance(found, bytes):
        return found
    try:
        with explained("read", path, absent=True):
            if type(found).__name__ not in BROKEN_OFF:
                raise found
            return _whole(path, ATTEMPTS - 1)
    except FileNotFoundError as err:
        return err


def _whole(path: "UPath", attempts: int, **part: int) -> bytes:
    """Reads an object, or a part of it, so often at most until an answer does not break off."""
    for left in reversed(range(attempts)):
        try:
            return bytes(_ask(path, "cat_file", **part))
        except Exception as err:
            if not left or type(err).__name__ not in BROKEN_OFF:
                raise
    raise AssertionError("the last attempt ends in an answer or an error")


def _write(path: "UPath", content: bytes, *, mode: str = "overwrite") -> None:
    """Writes an object within a time that grows with its size."""
    _call(path, "pipe_file", path.path, content, mode=mode, limit_s=WRITE_S + len(content) / SLOWEST)


def _ask(path: "UPath", method: str, *args: Any, **more: Any) -> Any:
    """Calls a method of fsspec on one path."""
    return _call(path, method, path.path, *args, **more)


def _call(path: "UPath", method: str, *args: Any, limit_s: float | None = None, **more: Any) -> Any:
    """Calls fsspec within a time, the scheme's if no other is given."""
    path.fs.retries = 1  # of s3fs around botocore, which tries three times itself
    return getattr(path.fs, method)(*args, timeout=limit_s or SCHEMES[path.protocol].limit_s, **more)


def _modified(about: dict[str, Any]) -> float:
    """Returns when an object was written, in seconds since the epoch: S3 says it by one name, GCS by another."""
    return float((about.get("LastModified") or about["mtime"]).timestamp())
