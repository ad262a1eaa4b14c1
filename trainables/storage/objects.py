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
from trainables.storage.info import FileInfo
from trainables.storage.paths import SCHEMES

if TYPE_CHECKING:
    from upath import UPath

CONFLICTS = 5
"""Times that a conditional write is asked for again when it met another one in flight."""
AT_ONCE = 48
"""Reads at the same time."""
WRITE_S, SLOWEST = 28.0, 5e5
"""What a write may take, and for each so many bytes a second more: s3fs would wait for ever for leave to send them."""


def create_once(path: "UPath", content: bytes) -> bool:
    """A conditional write: If-None-Match on S3, generation 0 on GCS. Of several writers the store lets one win.

    False may also mean that our own write arrived, but not the answer to it.
    """
    with explained("write", path):
        for _ in range(CONFLICTS):
            try:
                _write(path, content, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as err:
                if error_code(err) == "PreconditionFailed":
                    return False
                if error_code(err) != "ConditionalRequestConflict":
                    raise
    raise StorageUnavailable(f"cannot write {path}: others write it at the same time. Run the same command again.")


def require_create_once(path: "UPath", content: bytes) -> None:
    """Asks for a file that is there."""
    if create_once(path, content):
        raise StorageUnavailable(
            f"{path} was created twice: this object store ignores If-None-Match, so two processes could do the same "
            "work or overwrite each other. Choose one that knows conditional writes, such as AWS S3 or GCS."
        )


def replace(path: "UPath", content: bytes) -> None:
    """One PUT."""
    with explained("write", path):
        _write(path, content)


def publish_folder(files: dict[str, bytes], target: "UPath", marker: str) -> bool:
    """The marker comes last, so that a folder with it is whole."""
    if isinstance(read_many([target / marker])[0], bytes):
        return False
    for name, content in files.items():
        if name != marker:
            replace(target / name, content)
    return create_once(target / marker, files[marker])


def append_line(path: "UPath", value: object) -> None:
    """An object for each line; their names sort by time."""
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.json"
    replace(path.with_name(path.stem) / name, (json.dumps(value) + "\n").encode())


def read_bytes(path: "UPath") -> bytes:
    """One GET, and a second one when the answer broke off."""
    with explained("read", path, absent=True):
        try:
            content: bytes = _ask(path, "cat_file")
        except Exception as err:
            if type(err).__name__ not in BROKEN_OFF:
                raise
            content = _ask(path, "cat_file")
        return content


def read_start(path: "UPath", length: int) -> bytes:
    """One GET of a range; an empty file has none."""
    with explained("read", path, absent=True):
        try:
            content: bytes = _ask(path, "cat_file", start=0, end=length)
        except OSError as err:
            if error_code(err) != "InvalidRange":
                raise
            content = b""
        return content


def read_many(paths: Sequence["UPath"]) -> list[bytes | OSError]:
    """GETs at the same time; a missing file is its error."""
    if not paths:
        return []
    keys = [path.path for path in paths]
    with explained("read", paths[0].parent):
        found = _call(paths[0], "cat", keys, on_error="return", batch_size=AT_ONCE)
    return [_content(path, found[key]) for path, key in zip(paths, keys, strict=True)]


def exists(path: "UPath") -> bool:
    """Whether there is an object, or one below."""
    with contextlib.suppress(FileNotFoundError), explained("look for", path, absent=True):
        _ask(path, "info")
        return True
    return False


def names(folder: "UPath", pattern: str) -> list[str]:
    """Those whose parts match the pattern's."""
    parts = pattern.split("/")

    def fits(name: str) -> bool:
        found = name.split("/")
        return len(found) == len(parts) and all(map(fnmatch.fnmatchcase, found, parts))

    return sorted(filter(fits, _below(folder)))


def files_by_folder(folder: "UPath") -> dict[str, list[FileInfo]]:
    """One listing for all."""
    found: dict[str, list[FileInfo]] = defaultdict(list)
    for name, about in _below(folder).items():
        first, _, rest = name.partition("/")
        if rest and "/" not in rest:
            found[first].append(FileInfo(rest, int(about["size"]), _modified(about)))
    return dict(found)


def subfolders(folder: "UPath") -> list[str]:
    """One listing that does not go deeper."""
    with contextlib.suppress(FileNotFoundError), explained("list", folder, absent=True):
        entries = _ask(folder, "ls", detail=True)
        return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in entries if e["type"] == "directory")
    return []


def remove(path: "UPath") -> None:
    """An absent one is fine."""
    with contextlib.suppress(FileNotFoundError), explained("remove", path, absent=True):
        _ask(path, "rm_file")


def remove_folder(folder: "UPath", markers: Collection[str]) -> None:
    """Markers go first, so that what is left over counts as absent."""
    for name in sorted(_below(folder), key=lambda name: name not in markers):
        remove(folder / name)


def remove_tree(folder: "UPath") -> None:
    """As far as possible."""
    with contextlib.suppress(StorageUnavailable):
        remove_folder(folder, ())


def move(path: "UPath", target: "UPath", markers: Collection[str]) -> None:
    """Copies, which the store does itself, then removes."""
    inside = list(_below(path))
    for source, copy in [(path / name, target / name) for name in inside] or [(path, target)]:
        with contextlib.suppress(FileNotFoundError), explained("move", source, absent=True):
            _ask(source, "cp_file", copy.path)
    if inside:
        remove_folder(path, markers)
    else:
        remove(path)


def _below(folder: "UPath") -> dict[str, dict[str, Any]]:
    """What the store tells of every object below a folder, by its name from there."""
    root, found = folder.path.rstrip("/") + "/", {}
    with contextlib.suppress(FileNotFoundError), explained("list", folder, absent=True):
        found = _ask(folder, "find", detail=True)
    return {
        # A name that ends in "/" stands for an empty folder, as consoles create them.
        name.removeprefix(root): about
        for name, about in found.items()
        if name.startswith(root) and not name.endswith("/")
    }


def _modified(about: dict[str, Any]) -> float:
    """S3 and GCS name it differently."""
    return float((about.get("LastModified") or about["mtime"]).timestamp())


def _content(path: "UPath", found: bytes | Exception) -> bytes | OSError:
    """What was read, or why there is nothing to read; an answer that broke off is asked for again."""
    if isinstance(found, bytes):
        return found
    try:
        with explained("read", path, absent=True):
            if type(found).__name__ not in BROKEN_OFF:
                raise found
            again: bytes = _ask(path, "cat_file")
            return again
    except FileNotFoundError as err:
        return err


def _write(path: "UPath", content: bytes, *, mode: str = "overwrite") -> None:
    _call(path, "pipe_file", path.path, content, mode=mode, limit_s=WRITE_S + len(content) / SLOWEST)


def _ask(path: "UPath", method: str, *args: Any, **more: Any) -> Any:
    return _call(path, method, path.path, *args, **more)


def _call(path: "UPath", method: str, *args: Any, limit_s: float | None = None, **more: Any) -> Any:
    """Calls fsspec within a time, the scheme's if no other is given."""
    path.fs.retries = 1  # of s3fs around botocore, which tries three times itself
    return getattr(path.fs, method)(*args, timeout=limit_s or SCHEMES[path.protocol].limit_s, **more)
