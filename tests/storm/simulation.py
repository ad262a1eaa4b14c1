"""Lock, lease and ledger as they are, in a world where a seed decides who goes on, who sleeps and who dies."""

import json
import logging
from collections import Counter
from functools import cache, partial
from pathlib import PurePath
from types import SimpleNamespace
from unittest.mock import patch

import trainables.storage.files as files
import trainables.storage.lock as lock
from tests.storm.memory import MemoryStore
from tests.storm.world import Driver, World
from tests.tune_app.factories import make_record
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord

TRIALS, DRIVERS = 3, 3
DEATHS, PAUSES = 2, 3
LONGEST_S = 150.0
"""The longest that a driver stands still; a lock in an object store expires after 60 s."""
SLACK_S = 2 * lock.OBJECTS_HEARTBEAT_S
STILL_S = lock.OBJECTS_EXPIRY_S - SLACK_S
"""The least that a driver has stood still whose lock expires: it may have been seen a while before, and seen late."""
LOST = 0.05
"""The share of answers to a conditional write that get lost."""
WORK_S = (5.0, 40.0)
"""The least and the most that a trial takes: a driver works for longer than a lock lives without a sign of life."""
LATE_S = 60.0 + TRIALS * WORK_S[1] + 20.0
"""The most that the last driver may take: the time until a dead holder's lock expires, and its own work."""


@cache
def record_of(number: int, maker: str) -> TrialRecord:
    """What a driver writes of a trial: two drivers may both have run it, and their records differ."""
    return make_record(number, {"w_bits": number}, environment={"host": maker})


def simulate(seed: int) -> None:
    """Lets drivers work on one experiment, the last one undisturbed, and asserts what is promised.

    A record never changes, none is missing at the end, generations have no gap, and nobody is taken over who is alive.
    """
    world = World(seed, deaths=DEATHS, pauses=PAUSES, longest_s=LONGEST_S)
    store = MemoryStore(world.turn, lambda: world.random.random() < LOST)
    folder = ExperimentFolder(PurePath("/bucket/experiment"))  # type: ignore[arg-type]
    watch = Watch(world, folder)
    store.on_write = watch.see
    for number in range(DRIVERS):
        world.add(
            f"driver {number}", partial(drive, world, folder, f"driver {number}"), in_s=world.random.uniform(0, 30)
        )
    threads = SimpleNamespace(Thread=world.thread, Event=world.event)
    clock = SimpleNamespace(monotonic=lambda: world.clock, sleep=world.sleep)
    logging.getLogger(lock.__name__).disabled = True
    with (
        patch.object(files, "objects", store),
        patch.object(lock, "threading", threads),
        patch.object(lock, "time", clock),
        patch.object(lock, "_is_here", lambda holder: False),
    ):
        world.run()
        world.calm()
        ended_s = world.clock
        world.add("the last", partial(drive, world, folder, "the last"))
        world.run()
        late_s = world.clock - ended_s
        world.close()
        store.before = lambda: None
        records, damaged = Ledger(folder.trials).read()
    for driver in world.drivers:
        refused = isinstance(driver.error, LeaseHeld) and driver is not world.drivers[-1]
        assert driver.error is None or refused, driver
    assert late_s < LATE_S
    assert (sorted(r.assignment.number for r in records), damaged) == (list(range(TRIALS)), [])
    assert watch.generations == list(range(1, len(watch.generations) + 1))
    assert store.objects[str(folder.lease / f"{watch.generations[-1]:08d}.json")] == b"{}\n"


def drive(world: World, folder: ExperimentFolder, name: str) -> None:
    """What a driver does, as far as lock and ledger go: a look at the lease before each trial, a record after it."""
    ledger = Ledger(folder.trials)
    with Lease(folder) as lease:
        for number in range(TRIALS):
            record = record_of(number, name)
            if record.assignment.trial_id not in ledger.ids():
                lease.check()
                world.sleep(world.random.uniform(*WORK_S))
                ledger.add(record)
        lease.check()


class Watch:
    """Sees each write, and asserts what must hold at that moment."""

    def __init__(self, world: World, folder: ExperimentFolder) -> None:
        self.generations: list[int] = []
        self._world, self._folder = world, folder
        self._records: dict[str, bytes] = {}
        self._holders: list[Driver] = []
        self._released = True
        self._late: Counter[str] = Counter()

    def see(self, path: PurePath, content: bytes) -> None:
        """Looks at what was just written."""
        if path.parent == self._folder.trials:
            self._record(path.name, content)
        elif path.parent == self._folder.lease:
            self._lease(int(path.stem), content)

    def _record(self, name: str, content: bytes) -> None:
        assert self._records.setdefault(name, content) == content, f"{name} was changed"
        driver = self._world.current()
        if driver is not self._holders[-1]:
            self._late[driver.name] += 1
            assert self._late[driver.name] == 1, f"{driver.name} began a trial after another one had taken over"

    def _lease(self, generation: int, content: bytes) -> None:
        if self.generations and generation < self.generations[-1]:
            return  # one that was taken over beats once more, or gives back what it has lost
        if not self.generations or generation > self.generations[-1]:
            assert self._released or self._was_silent(), f"generation {generation} began while its holder was alive"
            self.generations.append(generation)
            self._holders.append(self._world.current())
        self._released = not json.loads(content)

    def _was_silent(self) -> bool:
        """Whether the holder had died, or stood still so long that it had to be taken for dead.

        One that takes over may itself have slept between its look and this step, in which the holder woke.
        """
        holder, clock = self._holders[-1], self._world.clock
        slept = [start for start, end in self._world.current().pauses if end > clock - SLACK_S]
        return holder.dead or holder.ended or any(_still_s(holder, at) >= STILL_S for at in (clock, *slept))


def _still_s(driver: Driver, at: float) -> float:
    """The seconds that a driver stood still in the time before, after which it is taken for dead."""
    since = at - lock.OBJECTS_EXPIRY_S - SLACK_S
    return sum(max(0.0, min(end, at) - max(start, since)) for start, end in driver.pauses)
