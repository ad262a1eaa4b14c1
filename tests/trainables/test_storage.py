import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import trainables.storage as storage
from trainables.errors import StorageUnavailable
from trainables.storage import DRAFT, Lock, append_line, create_once, publish_folder, replace, replace_json

SPAWN = multiprocessing.get_context("spawn")
ROOT = Path(__file__).parents[2]


def drafts(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.startswith(DRAFT)]


def test_create_once_writes_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    assert create_once(path, b"first") is True
    assert create_once(path, b"second") is False
    assert path.read_bytes() == b"first"
    assert drafts(tmp_path) == []


def test_replace_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    replace(path, b"first")
    replace(path, b"second")
    assert path.read_bytes() == b"second"
    assert drafts(tmp_path) == []
    replace_json(path, {"a": [1, 2.5]})
    assert json.loads(path.read_bytes()) == {"a": [1, 2.5]}


def test_publish_folder_appears_once_with_all_files(tmp_path: Path) -> None:
    target = tmp_path / "stages" / "key"
    assert publish_folder({"a": b"1", "b": b"2"}, target) is True
    assert publish_folder({"a": b"3"}, target) is False
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {"a": b"1", "b": b"2"}
    assert drafts(tmp_path) == []


def test_append_line_appends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    for i in range(3):
        append_line(path, {"i": i})
    assert [json.loads(line)["i"] for line in path.read_text().splitlines()] == [0, 1, 2]


def create_many(folder: str, me: int, barrier: Any) -> list[int]:
    """Tries to create every file; returns those that were new."""
    barrier.wait()
    return [i for i in range(100) if create_once(Path(folder) / f"{i}", f"{me}".encode() * 1000)]


def append_many(path: str, me: int, barrier: Any) -> list[int]:
    """Appends lines of its own."""
    barrier.wait()
    for i in range(200):
        append_line(Path(path), [me] * 500 + [i])
    return []


def together(work: Any, path: Path) -> list[list[int]]:
    """Runs `work` in three processes at the same time."""
    with SPAWN.Manager() as manager, SPAWN.Pool(3) as pool:
        barrier = manager.Barrier(3)
        return pool.starmap(work, [(str(path), me, barrier) for me in range(3)])


def test_of_several_processes_one_creates_a_file(tmp_path: Path) -> None:
    won = together(create_many, tmp_path)
    assert sorted(i for wins in won for i in wins) == list(range(100))
    for me, wins in enumerate(won):
        assert all((tmp_path / f"{i}").read_text() == f"{me}" * 1000 for i in wins)
    assert drafts(tmp_path) == []


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    together(append_many, tmp_path / "log")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted((line[0], line[-1]) for line in lines) == [(me, i) for me in range(3) for i in range(200)]
    assert all(set(line[:-1]) == {line[0]} for line in lines)


WRITERS = {
    "create_once": lambda path: create_once(path, b"new"),
    "replace": lambda path: replace(path, b"new"),
    "publish_folder": lambda path: publish_folder({"a": b"new"}, path),
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
    monkeypatch.setattr(storage.os, call, fails)
    write, path = (create_once, tmp_path / "new") if call == "link" else (replace, tmp_path / "file")
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        write(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"old"}


def test_publish_folder_leaves_no_draft_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", fails)
    with pytest.raises(StorageUnavailable):
        publish_folder({"a": b"1"}, tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import trainables.storage as storage
calls, last = 0, int(sys.argv[2])
def counted(function):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == last: os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **more)
    return call
for name in ("fsync", "link", "replace"): setattr(storage.os, name, counted(getattr(os, name)))
storage.replace(Path(sys.argv[1]) / "replaced", b"new" * 1000)
storage.create_once(Path(sys.argv[1]) / "created", b"new" * 1000)
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


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Lock]:
    lock = Lock(tmp_path / "lock", heartbeat_s=0.02)
    assert lock.try_acquire()
    yield lock
    lock.release()


def test_a_lock_has_one_holder(tmp_path: Path, held: Lock) -> None:
    other = Lock(tmp_path / "lock")
    assert not other.try_acquire()
    assert held.held()
    assert not other.held()
    holder = other.holder()
    assert holder is not None
    assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())


def test_a_released_lock_is_free_and_counts_on(tmp_path: Path, held: Lock) -> None:
    held.release()
    assert not held.held()
    other = Lock(tmp_path / "lock")
    assert other.holder() is None
    assert other.try_acquire()
    assert other.generation == 2
    assert not held.try_acquire()
    other.release()
    other.release()


def test_the_holder_beats(tmp_path: Path, held: Lock) -> None:
    deadline = time.monotonic() + 5
    while (held.holder() or {})["beat"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert held.held()


HOLDER = """
import sys, time
from pathlib import Path
from trainables.storage import Lock
print(Lock(Path(sys.argv[1]), heartbeat_s=0.05).try_acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with process:
        yield process
        process.kill()


def test_a_killed_holder_is_replaced(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    lock = Lock(tmp_path / "lock")
    assert not lock.try_acquire()
    holder.kill()
    deadline = time.monotonic() + 10  # also while it is a zombie: nobody has waited for it yet
    while not lock.try_acquire():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert lock.generation == 2
    lock.release()


def test_a_stopped_holder_on_this_machine_is_alive(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    assert not Lock(tmp_path / "lock", expiry_s=0).try_acquire()
    holder.send_signal(signal.SIGCONT)


def write_holder(lock: Path, generation: int = 1, **changes: object) -> None:
    """A holder's file as another process would have left it."""
    body = {"host": socket.gethostname(), "pid": os.getpid(), "started": 0.0, "beat": 0, **changes}
    replace_json(lock / f"{generation:08d}.json", body)


def test_a_process_that_took_the_number_of_a_dead_holder_is_not_the_holder(tmp_path: Path) -> None:
    write_holder(tmp_path / "lock")
    lock = Lock(tmp_path / "lock")
    assert lock.try_acquire()
    lock.release()


def test_a_step_of_the_clock_does_not_kill_the_holder(
    tmp_path: Path, held: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's time of boot moves with the clock, and the start of a process is counted from it.
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600)
    assert not Lock(tmp_path / "lock").try_acquire()


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(storage.time, "monotonic", clock)
    return clock


def test_a_holder_on_another_machine_expires_by_the_waiters_clock(tmp_path: Path, clock: Clock) -> None:
    write_holder(tmp_path / "lock", host="elsewhere")
    lock = Lock(tmp_path / "lock", expiry_s=20)
    assert not lock.try_acquire()
    clock.now += 19
    assert not lock.try_acquire()
    write_holder(tmp_path / "lock", host="elsewhere", beat=1)
    clock.now += 19
    assert not lock.try_acquire(), "its counter has moved"
    clock.now += 19.9
    assert not lock.try_acquire()
    clock.now += 0.2
    assert lock.try_acquire()
    assert lock.generation == 2
    lock.release()


def test_a_new_waiter_starts_its_own_count(tmp_path: Path, clock: Clock) -> None:
    write_holder(tmp_path / "lock", host="elsewhere", beat=5)
    first = Lock(tmp_path / "lock", expiry_s=20)
    assert not first.try_acquire()
    clock.now += 100
    assert not Lock(tmp_path / "lock", expiry_s=20).try_acquire()


def test_a_new_generation_starts_a_new_count(tmp_path: Path, clock: Clock) -> None:
    write_holder(tmp_path / "lock", host="elsewhere")
    lock = Lock(tmp_path / "lock", expiry_s=20)
    assert not lock.try_acquire()
    clock.now += 19
    write_holder(tmp_path / "lock", 2, host="elsewhere")
    clock.now += 19
    assert not lock.try_acquire()


def test_who_was_taken_over_knows_and_writes_no_more(tmp_path: Path, held: Lock) -> None:
    write_holder(tmp_path / "lock", 2, host="elsewhere")
    assert not held.held()
    time.sleep(0.1)
    first = (tmp_path / "lock" / "00000001.json").read_bytes()
    held.release()
    assert (tmp_path / "lock" / "00000001.json").read_bytes() == first
    assert json.loads((tmp_path / "lock" / "00000002.json").read_bytes())["host"] == "elsewhere"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"{}", b"[1]", b'{"hosu": "a", "pid": 1}'])
def test_a_damaged_holder_file_is_a_free_lock(tmp_path: Path, content: bytes) -> None:
    replace(tmp_path / "lock" / "00000003.json", content)
    lock = Lock(tmp_path / "lock")
    assert lock.try_acquire()
    assert lock.generation == 4
    lock.release()


def test_drafts_in_a_locks_folder_are_not_read(tmp_path: Path) -> None:
    replace(tmp_path / "lock" / f"{DRAFT}00000009.json", b'{"host": 1}')
    lock = Lock(tmp_path / "lock")
    assert lock.try_acquire()
    assert lock.generation == 1
    lock.release()


def test_a_lock_in_an_unwritable_folder_is_storage_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        Lock(Path("/proc/here/lock")).try_acquire()
