"""Files that are whole or absent: create once, replace atomically, publish a folder, hold a lock (torch-free).

The rule everywhere: write a draft in the same folder, fsync it, rename it, fsync the folder. A reader sees
a whole file or none, also when the writer was killed between any two of these steps.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from trainables.errors import StorageUnavailable

DRAFT = ".draft-"


@contextlib.contextmanager
def _explained(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        hint = "Free space or choose another storage folder; the same command then goes on."
        raise StorageUnavailable(f"cannot {action} {path}: {err.strerror}. {hint}") from err


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft(path: Path, content: bytes, *, durable: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f"{DRAFT}{uuid.uuid4().hex}"
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def create_once(path: Path, content: bytes) -> bool:
    """Creates a file that never changes again; False when it exists already (nothing is written then).

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    with _explained("write", path):
        draft = _draft(path, content)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        _fsync_folder(path.parent)
        return True


def replace(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replaces a file by new content in one step.

    One that is not durable outlives every process, but perhaps not the machine: for what is a hint alone.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    with _explained("write", path):
        draft = _draft(path, content, durable=durable)
        try:
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if durable:
            _fsync_folder(path.parent)


def replace_json(path: Path, value: object, *, durable: bool = True) -> None:
    """`replace` with indented JSON."""
    replace(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), durable=durable)


def publish_folder(files: dict[str, bytes], target: Path) -> bool:
    """Makes a folder appear with all its files at once; False when another writer was first.

    Raises:
        StorageUnavailable: the parent folder cannot be written.
    """
    draft = target.parent / f"{DRAFT}{uuid.uuid4().hex}"
    with _explained("write", target):
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
    """Appends one JSON line; lines of several processes do not mix (a single O_APPEND write).

    Raises:
        StorageUnavailable: the file cannot be written.
    """
    with _explained("append to", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (json.dumps(value) + "\n").encode())
        finally:
            os.close(handle)


def sha256(content: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(content).hexdigest()


class Lock:
    """One holder at a time, also across machines; a dead holder is replaced, and no two replace it.

    A lock is a folder of numbered generations. Taking it over means creating the next number, which only
    one process can do. The holder rewrites a counter in its own file; a waiter on another machine takes the
    holder for dead when the counter stood still for `expiry_s` of the waiter's own monotonic clock, so that
    no two clocks are ever compared. On the same machine the process table answers at once.
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = 2.0, expiry_s: float = 20.0) -> None:
        self.generation = 0
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._expiry_s = expiry_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int, Any] | None = None
        self._seen_at = 0.0

    def try_acquire(self) -> bool:
        """Takes the lock if it is free or its holder is dead.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        newest, holder = self._newest()
        if holder is not None and self._alive(newest, holder):
            return False
        if not create_once(self._path(newest + 1), self._content(0)):
            return False
        self.generation = newest + 1
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return True

    def holder(self) -> dict[str, Any] | None:
        """Host, process and heartbeat of who holds the lock, or None."""
        return self._newest()[1]

    def held(self) -> bool:
        """False as soon as another process has taken over."""
        return self.generation > 0 and self._newest()[0] == self.generation

    def release(self) -> None:
        """Frees the lock; the generation stays counted."""
        self._halt()
        if self.held():
            replace(self._path(self.generation), b"{}\n")
        self.generation = 0

    def _halt(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _path(self, generation: int) -> Path:
        return self._folder / f"{generation:08d}.json"

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        numbers = [int(p.stem) for p in self._folder.glob("[0-9]*.json")] if self._folder.is_dir() else []
        newest = max(numbers, default=0)
        if newest == 0:
            return 0, None
        try:
            holder = json.loads(self._path(newest).read_bytes())
        except (OSError, ValueError):
            return newest, None
        # After a release, and when the file is damaged, there is none.
        whole = isinstance(holder, dict) and holder.keys() >= {"host", "pid", "started", "beat"}
        return newest, holder if whole else None

    def _content(self, beat: int) -> bytes:
        me = psutil.Process()
        body = {"host": socket.gethostname(), "pid": me.pid, "started": _started(me), "beat": beat}
        return (json.dumps(body) + "\n").encode()

    def _alive(self, generation: int, holder: dict[str, Any]) -> bool:
        if holder["host"] == socket.gethostname():
            try:
                process = psutil.Process(holder["pid"])
                return _started(process) == holder["started"] and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return False
        seen = (generation, holder["beat"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() - self._seen_at < self._expiry_s

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(self._heartbeat_s):
            beat += 1
            with contextlib.suppress(StorageUnavailable):
                if not self.held():
                    return
                replace(self._path(self.generation), self._content(beat))


def _started(process: psutil.Process) -> float:
    """Seconds between boot and the start of a process: unlike its time of day, no change of the clock moves it."""
    return round(process.create_time() - psutil.boot_time(), 2)
