"""A lock with one holder at a time, by files alone."""

import contextlib
import functools
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from trainables.errors import StorageUnavailable
from trainables.storage.files import create_once, names, read_bytes, replace
from trainables.storage.paths import StoragePath
from trainables.storage.processes import is_hidden, started_s

logger = logging.getLogger(__name__)
HEARTBEAT_S, EXPIRY_S = 2.0, 20.0
"""Seconds between two signs of life on a disk, and until their absence means death: ten may be late. Longer: a dead
holder on another machine keeps others waiting; shorter: one that a busy disk holds up is taken for dead."""
GENERATION = re.compile(r"([0-9]{8})\.json")
"""The name of a generation's file; other files in the folder are none of ours."""
PIDS = range(1, 2**31)
"""What the number of a process can be."""
OBJECTS_HEARTBEAT_S, OBJECTS_EXPIRY_S = 5.0, 60.0
"""The same in an object store, where a write may take half a minute until it is given up."""
_OURS = set[str]()
"""The tokens of locks that this process holds: a release that was cut off may leave a file that says more."""


class Lock:
    """A lock with one holder at a time, also across machines; a dead one is replaced, and no two replace it.

    A lock is a folder of numbered generations. Taking it over means creating the next number, which only
    one process can do. The holder rewrites a counter in its own file; a waiter on another machine takes the
    holder for dead when the counter stood still for `expiry_s` of the waiter's own monotonic clock, so that
    no two clocks are ever compared. On the same machine the process table answers at once.
    """

    def __init__(self, folder: StoragePath, *, heartbeat_s: float | None = None, expiry_s: float | None = None) -> None:
        defaults = (HEARTBEAT_S, EXPIRY_S) if isinstance(folder, Path) else (OBJECTS_HEARTBEAT_S, OBJECTS_EXPIRY_S)
        self.generation = 0
        self._folder = folder
        self._heartbeat_s = defaults[0] if heartbeat_s is None else heartbeat_s
        self._expiry_s = defaults[1] if expiry_s is None else expiry_s
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int, Any] | None = None
        self._seen_at = 0.0

    def try_acquire(self) -> bool:
        """Takes the lock if it is free or its holder is dead; StorageUnavailable if the folder cannot be written."""
        newest = self._newest()
        if self._is_taken(newest):
            return False
        taken = False
        _OURS.add(self._token)  # before there is a file, at which others of this process look
        try:
            taken = create_once(self._path(newest + 1), self._content(0)) or self._wrote(newest + 1)
        finally:
            if not taken:
                _OURS.discard(self._token)
        if not taken:
            return False
        self.generation = newest + 1
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return True

    def acquire(self) -> bool:
        """Takes the lock unless its holder is alive: one on another machine is watched until it beats or has expired.

        Raises StorageUnavailable when the folder cannot be written.
        """
        first, told = self.holder(), False
        while not self.try_acquire():
            holder = self.holder()
            if holder is not None and (holder != first or _is_here(holder)):
                return False
            if not told:
                logger.warning("%s: up to %.0f s for a sign of life of its holder", self._folder, self._expiry_s)
                told = True
            time.sleep(self._heartbeat_s / 2)
        return True

    def holder(self) -> dict[str, Any] | None:
        """Returns host, process and heartbeat of who holds the lock, or None."""
        return self._read(self._newest())

    def is_taken(self) -> bool:
        """Whether somebody holds the lock who is alive, as far as one look tells."""
        return self._is_taken(self._newest())

    def held(self) -> bool:
        """Whether this lock is ours; no longer as soon as another process has taken over, or the folder is gone."""
        return self.generation > 0 and self._newest() == self.generation and self._wrote(self.generation)

    def release(self) -> None:
        """Frees the lock; the generation stays counted."""
        _OURS.discard(self._token)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.held():
            replace(self._path(self.generation), b"{}\n")
        self.generation = 0

    def _path(self, generation: int) -> StoragePath:
        """Returns the file of a generation."""
        return self._folder / f"{generation:08d}.json"

    def _newest(self) -> int:
        """Returns the number of the newest generation; 0 when nobody ever held the lock."""
        found = map(GENERATION.fullmatch, names(self._folder, "*.json"))
        return max((int(match[1]) for match in found if match), default=0)

    def _read(self, generation: int) -> dict[str, Any] | None:
        """Returns who holds a generation; None after its release, and when its file is damaged."""
        if generation == 0:
            return None
        try:
            holder = json.loads(read_bytes(self._path(generation)))
        except (OSError, ValueError):
            return None
        return holder if isinstance(holder, dict) and _is_whole(holder) else None

    def _wrote(self, generation: int) -> bool:
        """Whether a file that we were told is there is ours: an object store's answer may be lost, and asked again."""
        holder = self._read(generation)
        return holder is not None and holder.get("token") == self._token

    def _content(self, beat: int) -> bytes:
        """Returns what the holder writes: who and where it is, and its count of heartbeats."""
        me = psutil.Process()
        place = {"host": socket.gethostname(), "space": _space()}
        body = {**place, "pid": me.pid, "started": started_s(me), "beat": beat, "token": self._token}
        return (json.dumps(body) + "\n").encode()

    def _is_taken(self, generation: int) -> bool:
        """Whether the holder of a generation lives."""
        looked_at = time.monotonic()  # before: whoever sleeps behind the look has seen nothing of what came meanwhile
        holder = self._read(generation)
        return holder is not None and self._alive(generation, holder, looked_at)

    def _alive(self, generation: int, holder: dict[str, Any], looked_at: float) -> bool:
        """Whether the holder of a generation lives, by the process table here, or by its heartbeat elsewhere."""
        if _is_here(holder):
            if holder["pid"] == os.getpid() and holder.get("token") not in _OURS:
                return False
            try:
                process = psutil.Process(holder["pid"])
                return started_s(process) == holder["started"] and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return False
        seen = (generation, holder["beat"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return looked_at - self._seen_at < self._expiry_s

    def _beat(self) -> None:
        """Writes heartbeats until the lock is released or taken over; runs in a thread of its own."""
        beat = 0
        while not self._stop.wait(self._heartbeat_s):
            beat += 1
            with contextlib.suppress(StorageUnavailable):
                if not self.held():
                    return
                replace(self._path(self.generation), self._content(beat))


def _is_whole(holder: dict[str, Any]) -> bool:
    """Whether what a file says of a holder can be one."""
    of = {"host": str, "pid": int, "started": int | float, "beat": int}
    return all(isinstance(holder.get(name), kind) for name, kind in of.items()) and holder["pid"] in PIDS


def _is_here(holder: dict[str, Any]) -> bool:
    """Whether our process table knows a holder: containers on one machine may share its name and nothing else."""
    same = (holder["host"], holder.get("space")) == (socket.gethostname(), _space())
    return same and not is_hidden(holder["pid"])


@functools.cache
def _space() -> str:
    """Returns what numbers of processes are unique in: this start of the machine, and the container; or nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip() + os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""
