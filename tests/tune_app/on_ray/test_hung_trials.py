"""Who is ended: workers of running trials whose pulse and stages have stood still."""

from typing import Any

import pytest

from tests.tune_app.factories import Clock, make_experiment, make_record, make_spec
from tests.tune_app.search.test_ladder import open_proposer
from trainables.storage import StoragePath, replace
from tune_app.ledger.ledger import Assignment
from tune_app.on_ray.heartbeat import Pulse, end_pulse, write_pulse
from tune_app.on_ray.hung_trials import Lookout


class Looks:
    """A search on a clock, and the workers that were ended."""

    def __init__(self, storage: StoragePath) -> None:
        self.spec = make_spec(storage, epoch_deadline={"least_s": 60, "first_s": 900})
        self.folder, self.proposer = make_experiment(storage, [], tables=False), open_proposer(self.spec)
        self.clock, self.ended = Clock(), list[Pulse]()
        self.lookout = Lookout(
            self.spec,
            self.folder,
            self.proposer,
            keys_of=lambda work: [work.config_key],
            end=self.ended.append,
            clock=self.clock,
        )

    def start(self, pid: int) -> Assignment:
        work = self.proposer.next()
        assert work is not None
        write_pulse(self.folder, work.trial_id, Pulse(node_id="node", pid=pid, started=0.0))
        return work

    def epoch(self, work: Assignment, number: int) -> None:
        replace(self.folder.stages / "progress" / work.config_key / f"epoch-{number}", b"")

    def after(self, seconds: float) -> list[int]:
        """The processes that a look ends then."""
        self.clock.now += seconds
        self.ended.clear()
        self.lookout.look()
        return [pulse.pid for pulse in self.ended]


@pytest.fixture
def looks(storage: StoragePath) -> Looks:
    return Looks(storage)


def test_a_worker_is_ended_when_its_trial_stands_still(looks: Looks, caplog: Any) -> None:
    goes_on, hangs = looks.start(1), looks.start(2)
    assert looks.after(0) == []
    for work in (goes_on, hangs):
        looks.epoch(work, 1)
    assert looks.after(5) == []
    looks.epoch(goes_on, 2)
    assert looks.after(59) == []
    assert looks.after(2) == [2]
    assert caplog.messages == [f"{hangs.label} shows no progress for 60 s: its worker is ended"]
    assert looks.after(2) == [], "it is named once"


def test_a_trial_that_waits_for_its_turn_is_left_alone(looks: Looks) -> None:
    waits = looks.start(1)
    end_pulse(looks.folder, waits.trial_id)
    assert looks.after(0) == looks.after(2_000) == []
    write_pulse(looks.folder, waits.trial_id, Pulse(node_id="node", pid=1, started=0.0))
    assert looks.after(0) == looks.after(899) == []
    assert looks.after(2) == [1]


def test_a_trial_that_has_finished_is_left_alone(looks: Looks) -> None:
    work = looks.start(1)
    looks.after(0)
    looks.proposer.tell(make_record(0, work.params).model_copy(update={"assignment": work}))
    assert looks.after(2_000) == []
