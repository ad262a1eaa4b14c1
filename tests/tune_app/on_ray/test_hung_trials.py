"""Trials that stand still are found by the watcher's own clock, and their workers are ended."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tune_app.engine.ready import make_ready
from tests.tune_app.factories import Clock, make_experiment, make_record, make_spec
from trainables.storage import StoragePath, replace
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment
from tune_app.on_ray.heartbeat import Heartbeat, end_heartbeat, write_heartbeat
from tune_app.on_ray.hung_trials import HungTrials, Sign
from tune_app.search.keys import progress_keys


class Looks:
    """A search on a clock, and the workers that were ended."""

    def __init__(self, storage: StoragePath, lease: Lease) -> None:
        deadline = {"least_s": 60, "medians": 5, "first_s": 900}
        self.search = make_ready(make_spec(storage, epoch_deadline=deadline), lease)
        self.folder, self.proposer = self.search.folder, self.search.proposer
        self.clock, self.ended = Clock(), list[Heartbeat]()
        self.hung = HungTrials(self.search, end=self.ended.append, clock=self.clock)

    def start(self, pid: int) -> Assignment:
        work = self.proposer.next()
        assert work is not None
        write_heartbeat(self.folder, work.trial_id, Heartbeat(node_id="node", pid=pid, started=0.0))
        return work

    def epoch(self, work: Assignment, number: int) -> None:
        key = progress_keys(self.search.spec, self.search.baseline.fingerprint, work)[-1]
        replace(self.folder.stages / "progress" / key / f"epoch-{number}", b"")

    def after(self, seconds: float) -> list[int]:
        """The processes that a look ends then."""
        self.clock.now += seconds
        self.ended.clear()
        self.hung.look()
        return [beat.pid for beat in self.ended]


def sign(epoch: int, *, pid: int = 1, stage: int = 0) -> Sign:
    """The sign of a trial whose stage has ended so many epochs."""
    return Sign(pid, (stage, epoch), trains=epoch > 0)


@pytest.fixture
def looks(storage: StoragePath) -> Iterator[Looks]:
    with Lease(make_experiment(storage, [], tables=False)) as lease:
        yield Looks(storage, lease)


def test_a_worker_is_ended_when_its_trial_stands_still(looks: Looks, caplog: Any) -> None:
    goes_on, hangs = looks.start(1), looks.start(2)
    assert looks.after(0) == []
    for number in (1, 2):
        for work in (goes_on, hangs):
            looks.epoch(work, number)
        assert looks.after(5) == []
    looks.epoch(goes_on, 3)
    assert looks.after(59) == []
    assert looks.after(2) == [2]
    assert caplog.messages == [f"{hangs.label} shows no progress for 61 s: its worker is ended"]
    assert looks.after(2) == [], "it is named once"


def test_a_trial_that_waits_for_its_turn_is_left_alone(looks: Looks) -> None:
    waits = looks.start(1)
    end_heartbeat(looks.folder, waits.trial_id)
    assert looks.after(0) == looks.after(2_000) == []
    write_heartbeat(looks.folder, waits.trial_id, Heartbeat(node_id="node", pid=1, started=0.0))
    assert looks.after(0) == looks.after(899) == []
    assert looks.after(2) == [1]


def test_a_trial_that_has_finished_is_left_alone(looks: Looks) -> None:
    work = looks.start(1)
    looks.after(0)
    looks.proposer.tell(make_record(0, work.params).model_copy(update={"assignment": work}))
    assert looks.after(2_000) == []


def test_a_trial_that_goes_on_is_never_named(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for epoch in range(50):
        assert hung.standing_still({"a": sign(epoch)}) == {}
        clock.now += 59


def test_a_trial_that_stands_still_is_named_once(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for epoch in range(3):
        hung.standing_still({"a": sign(epoch), "b": sign(epoch)})
        clock.now += 2
    clock.now += 56
    assert hung.standing_still({"a": sign(2), "b": sign(3)}) == {}
    clock.now += 3
    assert hung.standing_still({"a": sign(2), "b": sign(4)}) == {"a": 61}
    assert hung.standing_still({"a": sign(2), "b": sign(5)}) == {}


def test_slow_epochs_have_a_longer_deadline(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for epoch in range(4):
        hung.standing_still({"a": sign(epoch)})
        clock.now += 100
    assert hung.limit_s(by_epochs=True) == 500
    clock.now += 390
    assert hung.standing_still({"a": sign(3)}) == {}
    clock.now += 20
    assert hung.standing_still({"a": sign(3)}) == {"a": 510}


def test_before_the_first_epoch_there_is_time_to_load_and_compile(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    hung.standing_still({"a": sign(0)})
    clock.now += 899
    assert hung.standing_still({"a": sign(0)}) == {}
    clock.now += 2
    assert hung.standing_still({"a": sign(0)}) == {"a": 901}


def test_short_stages_are_no_measure_of_a_long_epoch(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for stage in range(4):
        hung.standing_still({"a": sign(0, stage=stage)})
        clock.now += 3
    clock.now += 890
    assert hung.standing_still({"a": sign(0, stage=3)}) == {}
    hung.standing_still({"a": sign(1, stage=3)})
    clock.now += 899
    assert hung.standing_still({"a": sign(1, stage=3)}) == {}, "no epoch was measured from its start to its end"


def test_short_epochs_are_no_measure_of_what_ends_none(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for epoch in range(5):
        hung.standing_still({"a": sign(epoch), "b": sign(0)})
        clock.now += 2
    hung.standing_still({"a": sign(0, stage=1), "b": sign(0)})
    clock.now += 880
    assert hung.standing_still({"a": sign(0, stage=1), "b": sign(0)}) == {}


def test_a_worker_that_goes_on_from_saved_epochs_has_time_to_load(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    for epoch in range(5):
        hung.standing_still({"a": sign(epoch)})
        clock.now += 2
    hung.standing_still({"a": sign(4, pid=2)})
    clock.now += 899
    assert hung.standing_still({"a": sign(4, pid=2)}) == {}
    hung.standing_still({"a": sign(5, pid=2)})
    clock.now += 61
    assert hung.standing_still({"a": sign(5, pid=2)}) == {"a": 61}


def test_a_trial_that_starts_again_is_new(looks: Looks) -> None:
    hung, clock = looks.hung, looks.clock
    hung.standing_still({"a": sign(0)})
    hung.standing_still({"a": sign(1)})
    clock.now += 59
    hung.standing_still({})
    clock.now += 59
    assert hung.standing_still({"a": sign(1)}) == {}
