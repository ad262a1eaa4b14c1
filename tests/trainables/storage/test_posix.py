"""Files on a disk: what is left when a write fails or its process is killed, and which calls make it durable."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainables.storage.posix as posix
from trainables.errors import StorageUnavailable
from trainables.storage import (
    DRAFT,
    append_line,
    create_once,
    exists,
    is_published,
    names,
    publish_folder,
    read_bytes,
    remove,
    remove_drafts,
    remove_folder,
    replace,
    replace_json,
)

ROOT = Path(__file__).parents[3]


def drafts(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.startswith(DRAFT)]


def test_writing_leaves_no_draft(tmp_path: Path) -> None:
    for write in WRITERS.values():
        for _ in range(2):
            write(tmp_path / "new" / "x")
        (tmp_path / "new").rename(tmp_path / f"{len(list(tmp_path.iterdir()))}")
    remove_folder(tmp_path / "0", markers=[])
    assert drafts(tmp_path) == []


def test_only_what_is_durable_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(posix.os, "fsync", synced.append)
    replace_json(tmp_path / "a", 1, durable=False)
    assert synced == []
    replace_json(tmp_path / "a", 2)
    assert len(synced) == 2  # the file, then its folder
    create_once(tmp_path / "b", b"")
    assert len(synced) == 4


@pytest.mark.parametrize("name", ["create_once", "replace", "publish_folder"])
def test_a_file_in_a_new_folder_is_as_safe_as_the_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[Path]()
    monkeypatch.setattr(posix, "_fsync", synced.append)
    WRITERS[name](tmp_path / "a" / "b" / "x")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(synced)
    synced.clear()
    WRITERS[name](tmp_path / "a" / "b" / "y")
    assert not {tmp_path, tmp_path / "a"} & set(synced)


def test_a_line_that_another_writer_is_still_at_is_not_taken_for_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"of": "the')
    monkeypatch.setattr(posix.time, "sleep", lambda seconds: log.write_bytes(b'{"of": "the other"}\n'))
    append_line(log, {"of": "this one"})
    assert log.read_bytes() == b'{"of": "the other"}\n{"of": "this one"}\n'


def test_a_torn_line_ends_where_the_next_begins(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"torn": ')
    append_line(log, {"whole": 1})
    assert log.read_bytes() == b'{"torn": \n{"whole": 1}\n'


def test_a_line_that_a_full_disk_takes_in_part_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, left, write = tmp_path / "log.jsonl", [7], os.write

    def until_full(handle: int, content: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, content[: left.pop()])

    monkeypatch.setattr(os, "write", until_full)
    with pytest.raises(StorageUnavailable, match="Free space"):
        append_line(log, {"lost": 1})
    monkeypatch.undo()
    append_line(log, {"whole": 1})
    assert log.read_bytes() == b'{"lost"\n{"whole": 1}\n'


WRITERS = {
    "create_once": lambda path: create_once(path, b"new"),
    "replace": lambda path: replace(path, b"new"),
    "publish_folder": lambda path: publish_folder({"a": b"new"}, path, marker="a"),
    "append_line": lambda path: append_line(path, {}),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("below", ["file", "/", "/folder/"])
def test_a_path_below_a_file_is_storage_unavailable(name: str, below: str, tmp_path: Path) -> None:
    (tmp_path / "regular").write_bytes(b"old")
    with pytest.raises(StorageUnavailable, match=r"cannot .* the same command then goes on"):
        WRITERS[name](tmp_path / "regular" / below.strip("/") / "x")
    assert (tmp_path / "regular").read_bytes() == b"old"


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_takes_no_files_is_storage_unavailable(name: str) -> None:
    with pytest.raises(StorageUnavailable, match="/proc"):
        WRITERS[name](Path("/proc/here/x"))


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "Free space or choose another"),
        (errno.EDQUOT, "Free space or choose another"),
        (errno.EROFS, "Change the rights of the folder or choose another one"),
        (errno.EACCES, "Change the rights of the folder or choose another one"),
        (errno.EIO, "Choose another storage folder"),
    ],
)
def test_a_read_only_folder_is_no_full_disk(
    number: int, way_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fails)
    said = f"cannot write {tmp_path}/x: {os.strerror(number)}. {way_out}"
    with pytest.raises(StorageUnavailable, match=f"^{re.escape(said)}.*; the same command then goes on"):
        replace(tmp_path / "x", b"new")


@pytest.mark.parametrize("name", ["create_once", "replace"])
def test_nothing_is_left_behind_when_a_write_fails(name: str, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    if name == "replace":
        with pytest.raises(StorageUnavailable):
            replace(target, b"new")
    else:
        assert create_once(target, b"new") is False
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_failing_call_leaves_the_old_file_and_no_draft(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(posix.os, call, fails)
    write, path = (create_once, tmp_path / "new") if call == "link" else (replace, tmp_path / "file")
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        write(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


def test_publish_folder_leaves_no_draft_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(posix.os, "fsync", fails)
    with pytest.raises(StorageUnavailable):
        publish_folder({"a": b"1"}, tmp_path / "key", marker="a")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import trainables.storage.posix as posix
from trainables.storage import create_once, replace
calls, last = 0, int(sys.argv[2])
def counted(function):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == last: os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **more)
    return call
for name in ("fsync", "link", "replace"): setattr(posix.os, name, counted(getattr(os, name)))
replace(Path(sys.argv[1]) / "replaced", b"new" * 1000)
create_once(Path(sys.argv[1]) / "created", b"new" * 1000)
"""


def test_a_writer_that_is_killed_leaves_whole_files(tmp_path: Path) -> None:
    codes = []
    for last in range(1, 8):
        folder = tmp_path / str(last)
        folder.mkdir()
        (folder / "replaced").write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(last)], cwd=ROOT, check=False)
        codes.append(done.returncode)
        assert (folder / "replaced").read_bytes() in {b"old", b"new" * 1000}
        created = folder / "created"
        assert not created.exists() or created.read_bytes() == b"new" * 1000
        # What is left does no harm, and the work can be done again.
        replace(folder / "replaced", b"again")
        assert create_once(created, b"again") is (created.read_bytes() == b"again")
    assert codes == [-signal.SIGKILL] * 6 + [0]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_what_cannot_be_read_now_is_no_missing_file(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    replace(tmp_path / "a", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        with pytest.raises(StorageUnavailable, match=rf"cannot read .*/a: {error.strerror}\.$"):
            read_bytes(tmp_path / "a")
        patch.setattr(os, "scandir", fails)
        with pytest.raises(StorageUnavailable, match=f"cannot list .*: {error.strerror}"):
            names(tmp_path, "*")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_what_may_not_be_looked_at_is_not_absent(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    replace(tmp_path / "key" / "marker", b"1")
    for look in (exists, lambda path: is_published(path, ["marker"])):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", fails)
            with pytest.raises(StorageUnavailable, match=rf"cannot look for .*/key: {error.strerror}\.$"):
                look(tmp_path / "key")
        assert look(tmp_path / "key")


def test_nothing_has_a_name_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    replace(tmp_path / "file", b"")
    for name in ("x" * 300, "round", "file/below"):
        assert not exists(tmp_path / name)
        assert not is_published(tmp_path / name, ["marker"])
        assert names(tmp_path / name, "*") == []
    assert not is_published(tmp_path / "file", ["marker"])


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    for found in [*path.glob("*"), path]:
        os.utime(found, (then, then))


def test_old_drafts_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {"file": b"1", "folder/file": b"2", f"{DRAFT}young": b"3", f"folder/{DRAFT}filling/new": b"4"}
    for name, content in {**kept, f"{DRAFT}a": b"", f"folder/deep/{DRAFT}b": b"", f"folder/{DRAFT}c/d": b""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name in ("file", "folder", f"{DRAFT}a", f"folder/deep/{DRAFT}b", f"folder/{DRAFT}c", f"folder/{DRAFT}filling"):
        aged(tmp_path / name, 100)
    (tmp_path / f"folder/{DRAFT}filling/new").touch()
    remove_drafts(tmp_path, older_than_s=60)
    left = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == kept
    remove_drafts(tmp_path / "absent", older_than_s=60)


def test_a_draft_of_another_user_keeps_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        replace(tmp_path / name / f"{DRAFT}{name}", b"")
        aged(tmp_path / name / f"{DRAFT}{name}", 100)
    unlink, lstat = Path.unlink, Path.lstat

    def not_a(path: Path, **more: bool) -> None:
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied")
        unlink(path, **more)

    def not_b(path: Path) -> os.stat_result:
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return lstat(path)

    monkeypatch.setattr(Path, "unlink", not_a)
    monkeypatch.setattr(Path, "lstat", not_b)
    remove_drafts(tmp_path, older_than_s=60)
    assert sorted(drafts(tmp_path)) == [f"{DRAFT}a", f"{DRAFT}b"]


def test_what_cannot_be_removed_is_storage_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for take in (remove, lambda path: remove_folder(path, markers=[])):
        with pytest.raises(StorageUnavailable, match="cannot remove"):
            take(tmp_path / "file" / "x")


def test_a_folder_disappears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_folder({"a": b"1", "b": b"2"}, tmp_path / "key", marker="b")

    def killed(draft: Path, **_: object) -> None:
        assert {p.name for p in draft.iterdir()} == {"a", "b"}
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_folder(tmp_path / "key", markers=["b"])
    assert not (tmp_path / "key").exists()
