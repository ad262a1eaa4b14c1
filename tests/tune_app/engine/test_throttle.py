"""What is done seldom beside a search: how seldom, and when all the same."""

from types import SimpleNamespace

import pytest

from tests.tune_app.factories import Clock
from trainables.errors import StorageUnavailable
from tune_app.engine.throttle import Throttle


class Work:
    """Takes some seconds of a clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.took, self.calls = clock, 0.0, 0

    def __call__(self) -> None:
        self.calls += 1
        self.clock.now += self.took

    def pause_s(self, throttle: Throttle) -> float:
        """Seconds until the next call."""
        before, began = self.calls, self.clock.now
        while self.calls == before:
            self.clock.now += 0.125
            ended = self.clock.now
            throttle.maybe()
        return ended - began


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    clock = Clock()
    monkeypatch.setattr("tune_app.engine.throttle.time", SimpleNamespace(monotonic=clock))
    return Work(clock)


def test_the_first_call_waits_only_if_it_is_told_to(work: Work) -> None:
    Throttle(work, every_s=2, share=0.1, waits=False).maybe()
    assert work.calls == 1
    assert work.pause_s(Throttle(work, every_s=2, share=0.1, waits=True)) == 2


def test_a_pause_is_as_long_as_the_share_of_the_time_demands(work: Work) -> None:
    throttle = Throttle(work, every_s=2, share=0.1, waits=False)
    for work.took, pause_s in ((0.0, 2), (0.1, 2), (1.0, 10), (30.0, 300)):
        throttle.now()
        assert work.pause_s(throttle) == pytest.approx(pause_s, abs=0.125)


def test_no_pause_is_longer_than_the_longest(work: Work) -> None:
    throttle = Throttle(work, every_s=2, share=0.1, waits=False, most_s=5)
    work.took = 30.0
    throttle.now()
    assert work.pause_s(throttle) == 5


def test_what_fails_is_not_tried_more_often(work: Work) -> None:
    def fails() -> None:
        work()
        raise StorageUnavailable("full")

    throttle = Throttle(fails, every_s=2, share=0.1, waits=False)
    with pytest.raises(StorageUnavailable):
        throttle.maybe()
    throttle.maybe()
    assert work.calls == 1
