"""A few of the faults that `make storm` does to a search, and whether the simulation would notice a broken lock."""

import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

import trainables.storage.lock as lock
import trainables.storage.posix as posix
from tests.documents import ROOT
from tests.storm.memory import MemoryStore
from tests.storm.operations import counter
from tests.storm.power import power_lost
from tests.storm.search import undisturbed
from tests.storm.simulation import simulate
from trainables.storage.lock import Lock
from tune_app.ledger.lease import Lease

MOST = 2
"""Faults of each kind."""
KINDS = ["kill before", "kill after", "power loss", "SIGINT or SIGTERM", "pause", "bad line to S3", "simulated world"]
WORLDS = 200


def test_whatever_hits_a_search_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    options = ["--most", str(MOST), "--processes", "1", "--output", str(tmp_path / "storm")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.storm", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "storm.json").read_text())["figures"]["counts"]
    assert {kind: found["tried"] for kind, found in counts.items()} == dict.fromkeys(KINDS, MOST)
    hit = {kind: found["done"] for kind, found in counts.items()}  # others came too late: some writes go by the clock
    assert min(hit[kind] for kind in KINDS) >= 1


def test_lock_and_ledger_hold_in_simulated_worlds() -> None:
    for seed in range(WORLDS):
        simulate(seed)


def overwrites(store: MemoryStore, path: PurePath, content: bytes) -> bool:
    store.replace(path, content)
    return True


def refuses(own: Lock) -> bool:
    """`Lock.try_acquire` without the question whether a lock that is there is ours."""
    newest = own._newest()
    if own._is_taken(newest) or not lock.create_once(own._path(newest + 1), own._content(0)):
        return False
    own.generation = newest + 1
    own._stop.clear()
    own._thread = lock.threading.Thread(target=own._beat, daemon=True)
    own._thread.start()
    return True


BROKEN: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "nobody is taken for alive": (Lock, "_alive", lambda *_: False),
    "what is there is created again": (MemoryStore, "create_once", overwrites),
    "a lost answer is taken for a refusal": (Lock, "try_acquire", refuses),
    "no sign of life": (Lock, "_beat", lambda *_: None),
    "no look at the lease": (Lease, "check", lambda *_: None),
    "a lock is ours for ever": (Lock, "held", lambda *_: True),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_is_noticed_by_the_simulation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BROKEN[name])
    with pytest.raises(AssertionError):
        deque(map(simulate, range(WORLDS)))


def lose_power_without_fsync() -> None:
    """Loses power on a disk that is synced, which nothing shows, and on one that is not, which must be noticed."""
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch:
        place = Path(scratch)
        expected, count = undisturbed(place / "whole", counter)
        assert power_lost(count // 4, place / "synced", expected, seed=0)
        posix._fsync = lambda path: None
        with pytest.raises(AssertionError):
            power_lost(count // 4, place / "not", expected, seed=0)


def test_a_disk_that_is_not_synced_is_noticed() -> None:
    """In a process of its own: one that has trained cannot be forked to train."""
    work = f"from {lose_power_without_fsync.__module__} import lose_power_without_fsync as work; work()"
    done = subprocess.run([sys.executable, "-c", work], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
