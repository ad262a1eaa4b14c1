"""Trials that stand still are found by the watcher's own clock."""

import pytest

from tests.tune_app.factories import Clock
from tune_app.on_ray.hung_trials import Watch
from tune_app.spec.experiment import EpochDeadline

DEADLINE = EpochDeadline(least_s=60, medians=5, first_s=900)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_trial_that_goes_on_is_never_named(clock: Clock) -> None:
    watch = Watch(DEADLINE, clock=clock)
    for epoch in range(50):
        assert watch.look({"a": epoch}) == []
        clock.now += 59


def test_a_trial_that_stands_still_is_named_once(clock: Clock) -> None:
    watch = Watch(DEADLINE, clock=clock)
    for epoch in range(3):
        watch.look({"a": epoch, "b": epoch})
        clock.now += 2
    clock.now += 56
    assert watch.look({"a": 2, "b": 3}) == []
    clock.now += 3
    assert watch.look({"a": 2, "b": 4}) == ["a"]
    assert watch.look({"a": 2, "b": 5}) == []


def test_slow_epochs_have_a_longer_deadline(clock: Clock) -> None:
    watch = Watch(DEADLINE, clock=clock)
    for epoch in range(4):
        watch.look({"a": epoch})
        clock.now += 100
    assert watch.limit_s == 500
    clock.now += 390
    assert watch.look({"a": 3}) == []
    clock.now += 20
    assert watch.look({"a": 3}) == ["a"]


def test_before_the_first_epoch_there_is_time_to_load_and_compile(clock: Clock) -> None:
    watch = Watch(DEADLINE, clock=clock)
    watch.look({"a": 0})
    clock.now += 899
    assert watch.look({"a": 0}) == []
    clock.now += 2
    assert watch.look({"a": 0}) == ["a"]


def test_a_trial_that_starts_again_is_new(clock: Clock) -> None:
    watch = Watch(DEADLINE, clock=clock)
    watch.look({"a": 0})
    watch.look({"a": 1})
    clock.now += 59
    watch.look({})
    clock.now += 59
    assert watch.look({"a": 1}) == []
