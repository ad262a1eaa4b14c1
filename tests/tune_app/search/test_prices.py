"""What a trial would still compute, by the pace of those that have ended."""

from typing import Any

import pytest

from search_spaces.rungs import FULL
from tests.tune_app.factories import make_record, make_steps
from trainables.results import StageRun
from tune_app.ledger.ledger import Params, TrialRecord
from tune_app.search.prices import OVERHEAD_S, Prices

POINT: Params = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}


def record(
    params: Params = POINT, *, parent_s: float = 30.0, own_s: float = 8.0, cached: bool = False, **how: Any
) -> TrialRecord:
    parent, own = make_steps(params, FULL)
    stages = [
        StageRun(kind="train", key="0" * 64, seconds=99.0, cached=False),
        StageRun(kind=parent.kind, key=parent.key, seconds=parent_s, cached=cached),
        StageRun(kind=own.kind, key=own.key, seconds=own_s, cached=False),
    ]
    plain = make_record(0, params, **how)
    return plain.model_copy(update={"result": plain.result.model_copy(update={"stages": stages})})


def prices(*records: TrialRecord) -> Prices:
    found = Prices(make_steps)
    for each in records:
        found.learn(each)
    return found


def test_paces_are_seconds_per_epoch_of_what_was_computed() -> None:
    _, own = make_steps(POINT, FULL)
    assert prices(record(parent_s=0.1, cached=True)).paces() == {own.kind: 8.0 / own.epochs}
    both = prices(record(), record({**POINT, "w_bits": 8}, own_s=16.0)).paces()
    assert both[own.kind] == pytest.approx(12.0 / own.epochs)


def test_what_the_cache_has_is_free() -> None:
    """Two points that differ in bits and in pruning: the parent of the first is there."""
    known = prices(record())
    paces, (parent, own) = known.paces(), make_steps(POINT, FULL)
    near, far = ({**POINT, "w_bits": 6}, {**POINT, "prune_frac": 0.2})
    found = known.seconds([make_steps(near, FULL), make_steps(far, FULL), make_steps(POINT, FULL)], set())
    train = paces[own.kind] * own.epochs
    assert found == pytest.approx(
        [OVERHEAD_S + train, OVERHEAD_S + train + paces[parent.kind] * parent.epochs, OVERHEAD_S]
    )


def test_what_another_trial_brings_is_free_too() -> None:
    steps = make_steps(POINT, FULL)
    assert prices().seconds([steps], {step.key for step in steps}) == pytest.approx([OVERHEAD_S])


def test_before_anything_has_ended_an_epoch_is_a_second() -> None:
    steps = make_steps(POINT, FULL)
    assert prices().seconds([steps], set()) == pytest.approx([OVERHEAD_S + sum(step.epochs for step in steps)])


def test_a_trial_that_failed_says_nothing_of_its_stages() -> None:
    assert prices(make_record(0, POINT, state="failed")).paces() == {}


def test_a_network_at_chance_leaves_its_stages_and_one_that_was_not_measured_does_not() -> None:
    steps = make_steps(POINT, FULL)
    refused: dict[str, Any] = {"accuracy": 0.1, "state": "invalid"}
    assert prices(record(**refused, kind="Collapsed", measured=True)).seconds([steps], ()) == [OVERHEAD_S]
    assert prices(record(**refused)).seconds([steps], ())[0] > OVERHEAD_S


def test_what_another_experiment_computed_has_a_pace_and_is_not_stored_here() -> None:
    taken = record().model_copy(update={"taken_from": "another"})
    assert prices(taken).seconds([make_steps(POINT, FULL)], ()) == [pytest.approx(OVERHEAD_S + 38.0)]
