"""The search without Ray: budget, repeats, corners, resume, replay."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces.rungs import FULL
from search_spaces.samplers import MAX_ASKS, SAMPLERS
from tests.tune_app.factories import REFERENCE, drive_with, make_record, make_spec, make_steps
from trainables.config import digest
from tune_app.frontier.pareto import costs, hypervolume
from tune_app.ledger.ledger import Assignment, TrialRecord
from tune_app.run.search import is_spent
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.totals import totals_of

SPACE = {"prune_frac": {"low": 0.0, "high": 0.9, "step": 0.1}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}


def key_of(params: Mapping[str, float | int | str], repeat: int = 0) -> str:
    return digest([dict(params), repeat] if repeat else dict(params))


def closed_form(work: Assignment, *, state: str = "complete") -> TrialRecord:
    """A trial with the shape of a real one: accuracy falls with pruning and few bits, so does size."""
    p, w, a = (float(work.params[n]) for n in ("prune_frac", "w_bits", "a_bits"))
    accuracy = 0.95 - 0.2 * p**2 - 0.5 / 2**w - 0.3 / 2**a
    record = make_record(work.number, work.params, accuracy, round(1e6 * (1 - p) * w / 32), state)  # type: ignore[arg-type]
    return record.model_copy(update={"assignment": work})


def open_proposer(spec: ExperimentSpec, records: Sequence[TrialRecord] = (), **more: Any) -> Proposer:
    return Proposer(spec, key_of=key_of, steps_of=make_steps, reference=REFERENCE, records=records, **more)


def drive(proposer: Proposer, *, parallel: int = 2, stop_after: int | None = None) -> list[TrialRecord]:
    """Runs to the end of the budget, `parallel` at a time, oldest first."""
    return drive_with(proposer, closed_form, parallel=parallel, stop_after=stop_after)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sampler_spends_the_budget_on_distinct_points(sampler: str, tmp_path: Path) -> None:
    trials = 12 if SAMPLERS[sampler].asks < MAX_ASKS else 40
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": sampler}, budget={"trials": trials})
    done = drive(open_proposer(spec))
    assert len(done) == trials
    assert len({r.assignment.config_key for r in done}) == trials
    assert [r.assignment.number for r in done] == list(range(trials))


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_a_small_space_is_exhausted_and_then_the_search_ends(sampler: str, tmp_path: Path) -> None:
    space = {"prune_frac": [0.0, 0.3], "w_bits": [2, 4, 8], "a_bits": [4, 8]}
    spec = make_spec(tmp_path, space=space, sampler={"name": sampler}, budget={"trials": 1000})
    done = drive(open_proposer(spec))
    assert {tuple(r.assignment.params.items()) for r in done} == {tuple(p.items()) for p in spec.space.grid()}
    assert len(done) == spec.space.size == 12


CONDITIONAL = {
    "prune_frac": [0.0, 0.3],
    "importance": {"of": ["l1", "l2"], "when": {"prune_frac": [0.3]}},
    "w_bits": [2, 4, 8],
    "a_bits": [4, 8],
}


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_conditional_points_are_met_once_each_and_survive_a_replay(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=CONDITIONAL, sampler={"name": sampler}, budget={"trials": 1000})
    done = drive(open_proposer(spec), stop_after=9)
    done += drive(open_proposer(spec, done))
    assert len(done) == spec.space.size == 18
    assert {tuple(r.assignment.params.items()) for r in done} == {tuple(p.items()) for p in spec.space.grid()}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_the_corners_come_first(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": sampler}, budget={"trials": 12})
    first = [tuple(r.assignment.params.values()) for r in drive(open_proposer(spec), stop_after=8)]
    assert set(first) == {(p, w, a) for p in (0.0, 0.9) for w in (2, 8) for a in (4, 8)}


def test_the_ordered_grid_is_in_order(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, sampler={"name": "grid"}, budget={"trials": 5})
    assert [r.assignment.params for r in drive(open_proposer(spec))] == list(spec.space.grid())[:5]


POINTS = [
    {"a_bits": 8, "w_bits": 4, "prune_frac": 0.45},  # beside the grid, in another order
    {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8},
    {"prune_frac": 0.0, "w_bits": 2, "a_bits": 4},  # a corner too
    {"prune_frac": 0.25, "w_bits": 5, "a_bits": 8},
]


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_points_come_first_once_and_count(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, points=POINTS, sampler={"name": sampler}, budget={"trials": 9})
    done = drive(open_proposer(spec))
    assert len(done) == len({r.assignment.config_key for r in done}) == 9
    assert [r.assignment.params for r in done[:4]] == POINTS
    assert all(list(r.assignment.params) == list(SPACE) for r in done)
    assert all(spec.space.contains(r.assignment.params) for r in done[4:])


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_points_and_the_grid_are_exhausted_together(sampler: str, tmp_path: Path) -> None:
    space = {"prune_frac": [0.0, 0.5], "w_bits": [2, 4, 8], "a_bits": [4, 8]}
    spec = make_spec(tmp_path, space=space, points=POINTS, sampler={"name": sampler}, budget={"trials": 1000})
    done = drive(open_proposer(spec))
    beside = [p for p in POINTS if not spec.space.contains(p)]
    assert len(beside) == 2
    assert len(done) == 14


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_points_survive_a_resume(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, points=POINTS, sampler={"name": sampler}, budget={"trials": 12})
    dying = open_proposer(spec)
    first, second = dying.next(), dying.next()
    assert first is not None
    assert second is not None
    resumed = open_proposer(spec, [closed_form(second)], in_flight=dying.pending)
    rest = drive(resumed)
    assert rest[0].assignment == first
    assert [r.assignment.params for r in rest[:3]] == [POINTS[0], *POINTS[2:]]
    assert len({r.assignment.config_key for r in [*rest, closed_form(second)]}) == 12
    again = drive(open_proposer(spec, [*rest[:2], closed_form(second)]), stop_after=1)
    assert again[0].assignment.params == POINTS[3]


def test_a_point_beside_the_grid_runs_again_when_its_worker_is_lost(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, points=POINTS, budget={"trials": 10}))
    first = proposer.next()
    assert first is not None
    proposer.requeue(first)
    assert proposer.next() == first
    proposer.tell(closed_form(first))
    assert [r.assignment for r in proposer.records] == [first]


def test_a_point_on_the_grid_teaches_the_sampler_and_one_beside_it_does_not(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, points=POINTS, budget={"trials": 4}, sampler="tpe"))
    drive(proposer)
    assert len(optuna_trials(proposer)) == 2
    assert all(t.state.name == "COMPLETE" for t in optuna_trials(proposer))


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_resume_runs_only_what_is_left(sampler: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": sampler}, budget={"trials": 16})
    before = drive(open_proposer(spec), stop_after=10)
    after = drive(open_proposer(spec, before))
    keys = [r.assignment.config_key for r in [*before, *after]]
    assert len(keys) == len(set(keys)) == 16
    assert min(r.assignment.number for r in after) == 10


def test_what_was_in_flight_runs_first_and_once(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": "tpe"}, budget={"trials": 20})
    dying = open_proposer(spec)
    done = drive(dying, stop_after=5, parallel=4)
    finished_late = closed_form(dying.pending[0])  # its worker wrote the record after the driver had died
    lost = dying.pending[1:]
    assert lost
    resumed = open_proposer(spec, [*done, finished_late], in_flight=dying.pending)
    again = [resumed.next() for _ in lost]
    assert again == lost
    for work in lost:
        resumed.tell(closed_form(work))
    rest = drive(resumed)
    assert len(resumed.records) == 20
    assert not {w.config_key for w in dying.pending} & {r.assignment.config_key for r in rest}


def test_a_lost_worker_gets_its_point_again_before_anything_new(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, budget={"trials": 10}))
    first = proposer.next()
    assert first is not None
    proposer.requeue(first)
    assert proposer.pending == [first]
    assert proposer.next() == first
    proposer.tell(closed_form(first))
    assert proposer.pending == []


def test_a_second_delivery_changes_nothing(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, budget={"trials": 10}))
    work = proposer.next()
    assert work is not None
    proposer.tell(closed_form(work))
    better = closed_form(work).model_copy(update={"seconds": 99.0})
    proposer.tell(better)
    assert [r.seconds for r in proposer.records] == [2.0]


def test_failed_and_invalid_trials_count_against_the_budget_and_are_not_proposed_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 25, "failed_share": 1})
    proposer = open_proposer(spec)
    keys = set()
    while (work := proposer.next()) is not None:
        proposer.tell(closed_form(work, state=("invalid", "failed", "complete")[work.number % 3]))
        keys.add(work.config_key)
    assert len(keys) == len(proposer.records) == 25


def optuna_trials(proposer: Proposer) -> list[optuna.trial.FrozenTrial]:
    return proposer._strategy._studies[FULL]._study.get_trials()  # type: ignore[attr-defined]


def test_optuna_sees_fail_for_unusable_trials_and_bounds_for_the_others(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, constraints=["accuracy >= 0.9"], budget={"trials": 12}, sampler="tpe")
    proposer = open_proposer(spec)
    told = {}
    while (work := proposer.next()) is not None:
        record = closed_form(work, state="invalid" if work.number == 3 else "complete")
        proposer.tell(record)
        told[work.number] = record
    states = [t.state.name for t in optuna_trials(proposer)]
    assert states.count("FAIL") >= 1
    assert states.count("COMPLETE") == 11
    assert "RUNNING" not in states
    for trial in optuna_trials(proposer):
        if trial.state.name == "COMPLETE":
            [violation] = trial.constraints.values()
            assert violation == pytest.approx(0.9 - trial.values[0])
    replayed = optuna_trials(open_proposer(spec, list(told.values())))
    assert sorted(t.values for t in replayed if t.values) == sorted(
        t.values for t in optuna_trials(proposer) if t.values
    )
    assert all(len(t.constraints) == 1 for t in replayed if t.values)


def test_nsga2_keeps_its_generations_through_the_ledger(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": "nsga2"}, budget={"trials": 40})
    before = drive(open_proposer(spec), stop_after=30)
    replayed = optuna_trials(open_proposer(spec, before))
    generations = [v for t in replayed for k, v in t.system_attrs.items() if "generation" in k]
    assert max(generations) >= 1


def test_points_outside_a_changed_space_stay_out_of_the_study_and_in_the_records(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 10}, sampler="tpe")
    before = drive(open_proposer(spec))
    narrow = make_spec(tmp_path, space={**SPACE, "w_bits": [4, 8]}, budget={"trials": 14}, sampler="tpe")
    proposer = open_proposer(narrow, before)
    inside = [r for r in before if r.assignment.params["w_bits"] in (4, 8)]
    assert 0 < len(inside) < 10
    assert len(optuna_trials(proposer)) == len(inside)
    assert len(proposer.records) == 10
    assert all(r.assignment.params["w_bits"] in (4, 8) for r in drive(proposer))


def test_tpe_finds_more_hypervolume_than_the_ordered_grid(tmp_path: Path) -> None:
    """A search that ignored what it is told would not: 30 of 100 points, all of one side of the ordered grid."""

    def volume(sampler: str) -> float:
        spec = make_spec(tmp_path, space=SPACE, sampler={"name": sampler}, budget={"trials": 30})
        rows = [[r.metrics()[n] for n in spec.objectives] for r in drive(open_proposer(spec))]
        import numpy as np

        return hypervolume(costs(np.array(rows), list(spec.objectives.values())), [0.0, 1e6])

    assert volume("tpe") > volume("grid")


def test_failed_trials_run_again_when_asked_and_count_once(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 8})
    done = drive(open_proposer(spec))
    states = {1: "failed", 3: "invalid", 6: "failed"}
    records = [closed_form(r.assignment, state=states.get(i, "complete")) for i, r in enumerate(done)]
    assert drive(open_proposer(spec, records)) == []
    proposer = open_proposer(spec, records, retry_failed=True)
    assert (len(proposer.records), proposer.spent.trials, proposer.spent.faults) == (6, 6, 1)
    again = drive(proposer)
    wanted = [records[i].assignment.model_copy(update={"attempt": 2}) for i in (1, 6)]
    assert [r.assignment for r in again] == wanted
    assert len({r.assignment.trial_id for r in [*records, *again]}) == 10
    assert (len(proposer.records), proposer.spent.trials, proposer.spent.faults) == (8, 8, 1)
    assert drive(open_proposer(spec, [*records, *again], retry_failed=True)) == []


def test_points_that_are_asked_for_run_alone_whatever_the_budget(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 4})
    records = drive(open_proposer(spec))
    known = dict(records[2].assignment.params)
    new = {**known, "prune_frac": 0.123}  # not on the grid
    proposer = open_proposer(spec, records, only=[new, known])
    [made] = drive(proposer)
    assert (made.assignment.params, made.assignment.number, made.assignment.rung) == (new, 4, "full")
    assert [r.assignment.params for r in proposer.asked] == [new, known]
    assert proposer.done == "the points that were asked for"
    assert drive(open_proposer(spec, [*records, made], only=[new, known])) == []
    # Begun and cut off: once more with the same number, and not by a search to which the point does not belong.
    assert [r.assignment for r in drive(open_proposer(spec, records, in_flight=[made.assignment], only=[new]))] == [
        made.assignment.model_copy(update={"number": 5})
    ]
    assert drive(open_proposer(spec, records, in_flight=[made.assignment])) == []


def test_of_failed_points_those_that_are_asked_for_run_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 4})
    failed = [closed_form(r.assignment, state="failed") for r in drive(open_proposer(spec))]
    wanted = failed[1].assignment
    again = drive(open_proposer(spec, failed, only=[wanted.params], retry_failed=True))
    assert [r.assignment for r in again] == [wanted.model_copy(update={"attempt": 2})]
    assert drive(open_proposer(spec, failed, only=[wanted.params])) == []


def test_a_retry_that_was_cut_off_is_the_same_attempt(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 4})
    records = [
        closed_form(r.assignment, state="failed" if i == 2 else "complete")
        for i, r in enumerate(drive(open_proposer(spec)))
    ]
    first = records[2].assignment
    second = first.model_copy(update={"attempt": 2})
    for in_flight in ([second], [first], [first, second]):  # the first has its record already
        again = drive(open_proposer(spec, records, in_flight=in_flight, retry_failed=True))
        assert [r.assignment for r in again] == [second]
    assert drive(open_proposer(spec, records, in_flight=[first, second])) == []


def test_a_failed_trial_keeps_a_spent_budget_open_only_when_asked(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, budget={"trials": 2})
    records = [make_record(0, {"w_bits": 2}), make_record(1, {"w_bits": 4}, state="failed")]
    all_of_it, well = (totals_of(found, spec, REFERENCE) for found in (records, records[:1] * 2))
    assert is_spent(all_of_it, spec, retry_failed=False)
    assert not is_spent(all_of_it, spec, retry_failed=True)
    assert is_spent(well, spec, retry_failed=True)
