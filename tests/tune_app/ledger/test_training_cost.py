"""What trials cost, and what they did not have to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_app.factories import make_record
from trainables.results import StageRun
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.training_cost import TakenOver, cost_lines, seconds_saved, taken_over, training_seconds


def with_stages(number: int, *stages: tuple[str, float, bool]) -> TrialRecord:
    """A complete trial whose stages are (key, seconds, cached)."""
    record = make_record(number, {"w_bits": number})
    costs = [StageRun(kind="qat", key=key, seconds=seconds, cached=cached) for key, seconds, cached in stages]
    return record.model_copy(update={"result": record.result.model_copy(update={"stages": costs})})


def test_training_counts_what_the_cache_did_not_answer() -> None:
    assert training_seconds(make_record(0, {"w_bits": 4})) == 1.5
    failed = make_record(0, {"w_bits": 4}, state="failed").model_copy(update={"seconds": 7.0})
    assert training_seconds(failed) == 1.5
    nobody_noted = failed.result.model_copy(update={"stages": []})
    assert training_seconds(failed.model_copy(update={"result": nobody_noted})) == 7.0


def test_what_another_experiment_ran_costs_nothing_here() -> None:
    there = [with_stages(0, ("pruned", 60.0, False)), with_stages(1, ("pruned", 0.5, True), ("a", 9.0, False))]
    taken = [record.model_copy(update={"taken_from": "other"}) for record in there]
    here = with_stages(2, ("b", 4.0, False))
    assert sum(map(training_seconds, [*taken, here])) == 4.0
    assert seconds_saved([*taken, here]) == 0.0
    assert taken_over([*taken, here]) == {"other": TakenOver(trials=2, training_seconds=69.0)}
    assert cost_lines(4.0, -0.1, taken_over([*taken[:1], here])) == [
        "training: 4 s, 0 s more saved by the stage cache",
        "taken over: 1 trial from other, with 60 s of training there",
    ]


def test_each_trial_that_found_a_stage_saved_what_it_took_less_the_reading() -> None:
    maker = with_stages(0, ("base", 0.5, True), ("pruned", 60.0, False), ("a", 9.0, False))
    others = [with_stages(i, ("base", 0.5, True), ("pruned", 0.25, True), (f"b{i}", 9.0, False)) for i in (1, 2)]
    assert seconds_saved([maker, *others]) == 2 * (60.0 - 0.25)
    assert seconds_saved([*others, maker]) == 2 * (60.0 - 0.25)


def test_a_stage_that_no_record_made_saves_nothing() -> None:
    assert seconds_saved([with_stages(0, ("base", 0.5, True)), with_stages(1, ("base", 0.5, True))]) == 0.0
    assert seconds_saved([]) == 0.0


SECONDS = st.integers(0, 100).map(float)


@given(st.lists(st.tuples(st.none() | SECONDS, st.lists(SECONDS, max_size=4)), max_size=6))
def test_every_reading_of_a_stage_that_was_made_counts(stages: list[tuple[float | None, list[float]]]) -> None:
    records, expected = [], 0.0
    for i, (taken, readings) in enumerate(stages):
        records += [with_stages(len(records), (f"s{i}", seconds, True)) for seconds in readings]
        if taken is not None:
            records.append(with_stages(len(records), (f"s{i}", taken, False)))
            expected += sum(taken - seconds for seconds in readings)
    assert seconds_saved(records) == pytest.approx(expected)
