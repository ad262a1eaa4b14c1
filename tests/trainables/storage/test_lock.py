"""One holder at a time, whatever happens to it, on a disk and in an object store."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import trainables.storage.lock as lock_module
from tests.together import Together
from trainables.errors import StorageUnavailable
from trainables.storage import (
    DRAFT,
    Lock,
    StoragePath,
    create_once,
    names,
    read_bytes,
    remove_folder,
    replace,
    replace_json,
    storage_path,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture
def held(storage: StoragePath) -> Iterator[Lock]:
    lock = Lock(storage / "lock", heartbeat_s=0.02)
    assert lock.try_acquire()
    yield lock
    lock.release()


def test_a_lock_has_one_holder(storage: StoragePath, held: Lock) -> None:
    other = Lock(storage / "lock")
    assert not other.try_acquire()
    assert held.held()
    assert not other.held()
    holder = other.holder()
    assert holder is not None
    assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())


def test_a_released_lock_is_free_and_counts_on(storage: StoragePath, held: Lock) -> None:
    held.release()
    assert not held.held()
    other = Lock(storage / "lock")
    assert other.holder() is None
    assert other.try_acquire()
    assert other.generation == 2
    assert not held.try_acquire()
    other.release()
    other.release()


def test_the_holder_beats(storage: StoragePath, held: Lock) -> None:
    while (held.holder() or {})["beat"] < 2:
        time.sleep(0.01)
    assert held.held()


def test_who_sleeps_behind_its_look_takes_nobody_for_dead(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has seen is old when it wakes: the holder may have given a sign of life meanwhile."""
    holder, other = Lock(storage / "lock", heartbeat_s=1_000), Lock(storage / "lock", expiry_s=10)
    clock, read = [0.0], Lock._read
    monkeypatch.setattr(lock_module, "_is_here", lambda found: False)
    monkeypatch.setattr(lock_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def asleep(own: Lock, generation: int) -> dict[str, Any] | None:
        found = read(own, generation)
        clock[0] += 100
        return found

    assert holder.try_acquire()
    assert not other.try_acquire()
    monkeypatch.setattr(Lock, "_read", asleep)
    assert not other.try_acquire()
    assert other.try_acquire()
    holder.release()
    other.release()


HOLDER = """
import sys, time
from trainables.storage import Lock, storage_path
print(Lock(storage_path(sys.argv[1]), heartbeat_s=0.05).try_acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(storage: StoragePath) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(storage / "lock")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with process:
        yield process
        process.kill()


def test_a_killed_holder_is_replaced(storage: StoragePath, holder: subprocess.Popen[str]) -> None:
    lock = Lock(storage / "lock")
    assert not lock.try_acquire()
    holder.kill()
    while not lock.try_acquire():  # also while it is a zombie: nobody has waited for it yet
        time.sleep(0.01)
    assert lock.generation == 2
    lock.release()


def test_a_stopped_holder_on_this_machine_is_alive(storage: StoragePath, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    assert not Lock(storage / "lock", expiry_s=0).try_acquire()
    holder.send_signal(signal.SIGCONT)


def write_holder(lock: StoragePath, generation: int = 1, **changes: object) -> None:
    """A holder's file as another process would have left it."""
    here = {"host": socket.gethostname(), "space": lock_module._space()}
    body = {**here, "pid": os.getpid(), "started": 0.0, "beat": 0, **changes}
    replace_json(lock / f"{generation:08d}.json", body)


def test_a_process_that_took_the_number_of_a_dead_holder_is_not_the_holder(storage: StoragePath) -> None:
    write_holder(storage / "lock")
    lock = Lock(storage / "lock")
    assert lock.try_acquire()
    lock.release()


def test_a_step_of_the_clock_does_not_kill_the_holder(
    storage: StoragePath, held: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's time of boot moves with the clock, and the start of a process is counted from it.
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot + 3600)
    assert not Lock(storage / "lock").try_acquire()


def test_an_older_psutil_remembers_the_time_of_boot_that_it_saw_last(
    storage: StoragePath, held: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = boot = psutil.boot_time()

    def moved() -> float:
        nonlocal seen
        seen = boot + 3600
        return seen

    monkeypatch.setattr(psutil, "boot_time", moved)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: self._proc.create_time(monotonic=True) + seen)
    assert not Lock(storage / "lock").try_acquire()


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lock_module, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    return clock


def test_a_holder_on_another_machine_expires_by_the_waiters_clock(storage: StoragePath, clock: Clock) -> None:
    write_holder(storage / "lock", host="elsewhere")
    lock = Lock(storage / "lock", expiry_s=20)
    assert not lock.try_acquire()
    clock.now += 19
    assert not lock.try_acquire()
    write_holder(storage / "lock", host="elsewhere", beat=1)
    clock.now += 19
    assert not lock.try_acquire(), "its counter has moved"
    clock.now += 19.9
    assert not lock.try_acquire()
    clock.now += 0.2
    assert lock.try_acquire()
    assert lock.generation == 2
    lock.release()


def test_a_new_waiter_starts_its_own_count(storage: StoragePath, clock: Clock) -> None:
    write_holder(storage / "lock", host="elsewhere", beat=5)
    first = Lock(storage / "lock", expiry_s=20)
    assert not first.try_acquire()
    clock.now += 100
    assert not Lock(storage / "lock", expiry_s=20).try_acquire()


def test_a_new_generation_starts_a_new_count(storage: StoragePath, clock: Clock) -> None:
    write_holder(storage / "lock", host="elsewhere")
    lock = Lock(storage / "lock", expiry_s=20)
    assert not lock.try_acquire()
    clock.now += 19
    write_holder(storage / "lock", 2, host="elsewhere")
    clock.now += 19
    assert not lock.try_acquire()


def test_a_holder_whose_number_means_nothing_here_is_on_another_machine(storage: StoragePath, clock: Clock) -> None:
    # Two containers with the name of their host: each has processes of its own under the same numbers.
    write_holder(storage / "lock", space="another container", pid=2**22 + 1)
    lock = Lock(storage / "lock", expiry_s=20)
    assert not lock.try_acquire()
    clock.now += 21
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize("answer", [psutil.AccessDenied, psutil.NoSuchProcess])
def test_a_holder_whose_process_the_system_hides_is_known_by_its_heartbeat(
    answer: type[psutil.Error], storage: StoragePath, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On machines with hidepid nobody sees the processes of other users.
    shown, number = psutil.Process, 2**22 + 1

    def hidden(pid: int | None = None) -> psutil.Process:
        if pid == number:
            raise answer(pid)
        return shown(pid)

    def forbidden(pid: int, _: int) -> None:
        assert pid == number
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(psutil, "Process", hidden)
    monkeypatch.setattr(os, "kill", forbidden)
    write_holder(storage / "lock", pid=number)
    lock, began = Lock(storage / "lock", heartbeat_s=2, expiry_s=20), clock.now
    assert lock.is_taken()
    assert lock.acquire()
    assert 20 <= clock.now - began <= 22
    lock.release()


def test_the_lock_of_a_machine_that_is_gone_is_acquired_in_the_end(storage: StoragePath, clock: Clock) -> None:
    write_holder(storage / "lock", host="elsewhere")
    lock, began = Lock(storage / "lock", heartbeat_s=2, expiry_s=20), clock.now
    assert lock.acquire()
    assert 20 <= clock.now - began <= 22
    lock.release()


def test_a_holder_on_another_machine_that_beats_keeps_its_lock(
    storage: StoragePath, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_holder(storage / "lock", host="elsewhere")

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if clock.now > 1005:
            write_holder(storage / "lock", host="elsewhere", beat=1)

    monkeypatch.setattr(lock_module.time, "sleep", sleep)
    assert not Lock(storage / "lock", heartbeat_s=2, expiry_s=20).acquire()
    assert clock.now <= 1007


def test_a_holder_on_this_machine_is_known_at_once(storage: StoragePath, held: Lock, clock: Clock) -> None:
    other = Lock(storage / "lock")
    assert not other.acquire()
    assert clock.now == 1000
    held.release()
    assert other.acquire()
    assert clock.now == 1000
    other.release()


def test_who_was_taken_over_knows_and_writes_no_more(storage: StoragePath, held: Lock) -> None:
    write_holder(storage / "lock", 2, host="elsewhere")
    assert not held.held()
    time.sleep(0.1)
    first = read_bytes(storage / "lock" / "00000001.json")
    held.release()
    assert read_bytes(storage / "lock" / "00000001.json") == first
    assert json.loads(read_bytes(storage / "lock" / "00000002.json"))["host"] == "elsewhere"


def holder_with(**changes: Any) -> bytes:
    return json.dumps({"host": "a", "pid": 1, "started": 1.5, "beat": 1, **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xff", b"{}", b"[1]", b'{"hosu": "a", "pid": 1}'),
        *(holder_with(host=socket.gethostname(), space=lock_module._space(), pid=pid) for pid in (-1, 0, "abc", 2**40)),
        *(holder_with(host=3), holder_with(started="x"), holder_with(beat=None), holder_with(pid=None)),
    ],
)
def test_a_damaged_holder_file_is_a_free_lock(storage: StoragePath, content: bytes) -> None:
    replace(storage / "lock" / "00000003.json", content)
    lock = Lock(storage / "lock")
    assert lock.try_acquire()
    assert lock.generation == 4
    lock.release()


@pytest.mark.parametrize("name", ["1 (copy).json", "00000009 (copy).json", "9.json", "x.json", "000000009.json"])
def test_a_foreign_file_in_a_locks_folder_is_not_read(name: str, storage: StoragePath) -> None:
    replace(storage / "lock" / name, b"{}")
    lock = Lock(storage / "lock")
    assert lock.try_acquire()
    assert lock.generation == 1
    assert lock.held()
    lock.release()


def test_two_holders_of_one_number_know_each_other(storage: StoragePath) -> None:
    first, second = (Lock(storage / "lock", heartbeat_s=60) for _ in range(2))
    assert first.try_acquire()
    remove_folder(storage / "lock", markers=("00000001.json",))
    assert not first.held()
    assert second.try_acquire()
    assert (first.generation, second.generation) == (1, 1)
    assert (first.held(), second.held()) == (False, True)
    first.release()
    assert second.held()
    second.release()


def test_drafts_in_a_locks_folder_are_not_read(storage: StoragePath) -> None:
    replace(storage / "lock" / f"{DRAFT}00000009.json", b'{"host": 1}')
    lock = Lock(storage / "lock")
    assert lock.try_acquire()
    assert lock.generation == 1
    lock.release()


def acquire_many(folder: str, me: int, barrier: Any) -> list[int]:
    """Tries to take every lock, and keeps those that it got until all have tried."""
    locks = [Lock(storage_path(folder) / f"{i}", heartbeat_s=60) for i in range(10)]
    barrier.wait()
    won = [i for i, lock in enumerate(locks) if lock.try_acquire()]
    barrier.wait()
    for i in won:
        locks[i].release()
    return won


def test_of_several_processes_one_gets_a_lock(storage: StoragePath, together: Together) -> None:
    won = together(acquire_many, str(storage), count=2)
    assert sorted(i for wins in won for i in wins) == list(range(10))
    assert all(names(storage / f"{i}", "*") == ["00000001.json"] for i in range(10))


def test_a_write_whose_answer_was_lost_takes_the_lock(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_answer(path: StoragePath, content: bytes) -> bool:
        create_once(path, content)
        return create_once(path, content)  # asked again, the store says that there is one already

    lock, other = Lock(storage / "lock", heartbeat_s=60), Lock(storage / "lock")
    monkeypatch.setattr(lock_module, "create_once", without_answer)
    assert lock.try_acquire()
    assert lock.held()
    assert not other.try_acquire()
    lock.release()


def test_who_is_told_that_another_was_faster_does_not_hold_the_lock(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(path: StoragePath, _: bytes) -> bool:
        write_holder(storage / "lock", host="elsewhere")
        return False

    lock = Lock(storage / "lock")
    monkeypatch.setattr(lock_module, "create_once", too_late)
    assert not lock.try_acquire()
    assert not lock.held()


def fails(*_: object, **__: object) -> None:
    raise StorageUnavailable("no space left on device")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("target", "name", "stops"),
    [(lock_module, "replace", fails), (threading.Thread, "join", interrupted)],
    ids=["full disk", "Ctrl-C"],
)
def test_a_release_that_was_cut_off_keeps_nobody_of_this_process_waiting(
    target: Any, name: str, stops: Any, storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, other = Lock(storage / "lock", heartbeat_s=60), Lock(storage / "lock", heartbeat_s=60)
    assert lock.try_acquire()
    assert not other.try_acquire()
    with monkeypatch.context() as patch:
        patch.setattr(target, name, stops)
        with pytest.raises((StorageUnavailable, KeyboardInterrupt)):
            lock.release()
    assert other.acquire()
    assert other.held()
    other.release()


def test_a_lock_whose_taking_was_cut_off_keeps_nobody_of_this_process_waiting(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arrives_without_answer(path: StoragePath, content: bytes) -> bool:
        create_once(path, content)
        raise StorageUnavailable("no answer in time")

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "create_once", arrives_without_answer)
        with pytest.raises(StorageUnavailable):
            Lock(storage / "lock", heartbeat_s=60).try_acquire()
    lock = Lock(storage / "lock", heartbeat_s=60)
    assert lock.acquire()
    assert lock.generation == 2
    lock.release()


def test_beats_are_rarer_where_each_is_a_request(tmp_path: Path, bucket: str) -> None:
    on_disk, in_bucket = Lock(tmp_path), Lock(storage_path(bucket))
    assert on_disk._heartbeat_s < in_bucket._heartbeat_s < in_bucket._expiry_s / 10
    assert on_disk._expiry_s < in_bucket._expiry_s


def test_a_lock_in_an_unwritable_folder_is_storage_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        Lock(Path("/proc/here/lock")).try_acquire()
