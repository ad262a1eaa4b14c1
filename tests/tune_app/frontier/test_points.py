"""Several runs of a point: what they say together, how likely it is on the frontier, and who runs again."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from search_spaces.rungs import FULL
from tests.tune_app.factories import REFERENCE, drive_with, make_record, make_spec
from tests.tune_app.search.test_ladder import make_laddered
from tests.tune_app.search.test_proposer import SPACE, closed_form, key_of, open_proposer, optuna_trials
from trainables.config import repeat_seed
from tune_app.engine.live_view import Status
from tune_app.frontier.chance import (
    non_dominated_in_each,
    pooled_sd,
    probabilities,
    probability_non_dominated,
    standard_errors,
)
from tune_app.frontier.pareto import hypervolume, non_dominated
from tune_app.frontier.points import PointRuns, frontier, frontier_volume, group_runs
from tune_app.ledger.ledger import Assignment, TrialRecord, in_full
from tune_app.search.proposer import Proposer
from tune_app.search.repeats import next_repeat, wants_repeats
from tune_app.spec.experiment import ExperimentSpec, Repeats

A, B, C = ({"prune_frac": 0.0, "w_bits": bits, "a_bits": 8} for bits in (8, 4, 2))
RACE = {"seeds": 3, "min_probability": 0.05}


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    return make_spec(tmp_path, repeats=RACE)


def runs(
    params: Mapping[str, Any], *accuracies: float | None, size_bytes: int = 100_000, first: int = 0
) -> list[TrialRecord]:
    """Runs of a point, all of one size; None is a run that failed."""
    return [
        make_record(first + i, params, a or 0.9, size_bytes, "complete" if a else "failed", repeat=i)
        for i, a in enumerate(accuracies)
    ]


def test_a_group_holds_mean_and_sample_deviation_of_its_complete_runs(spec: ExperimentSpec) -> None:
    [group] = group_runs(runs(A, 0.9, None, 0.93, 0.96), spec)
    assert list(group.runs) == [0, 1, 2, 3]
    assert [r.assignment.repeat for r in group.complete] == [0, 2, 3]
    mean, sd = np.mean([0.9, 0.93, 0.96]), np.std([0.9, 0.93, 0.96], ddof=1)
    assert group.mean == {"accuracy": pytest.approx(mean), "size_bytes": 100_000, "compression_ratio": 10}
    assert group.sd == {"accuracy": pytest.approx(sd), "size_bytes": 0, "compression_ratio": 0}


def test_a_single_run_has_no_deviation_and_a_failed_point_no_mean(spec: ExperimentSpec) -> None:
    single, failed = group_runs([*runs(A, 0.9), *runs(B, None, first=1)], spec)
    assert (single.mean["accuracy"], single.sd, single.feasible) == (0.9, {}, True)
    assert (failed.mean, failed.sd, failed.feasible) == ({}, {}, False)


def test_groups_are_of_points_of_the_full_rung_in_order_of_proposal(spec: ExperimentSpec) -> None:
    records = [*runs(B, 0.8, 0.9, first=3), make_record(9, C, rung="ptq"), *runs(A, 0.7, first=1)]
    found = group_runs(records, spec)
    assert [(g.first.assignment.params, len(g.runs)) for g in found] == [(A, 1), (B, 2)]


def test_a_newer_record_of_the_same_run_takes_the_place_of_the_older_one(spec: ExperimentSpec) -> None:
    older, newer = make_record(0, A, 0.5), make_record(4, A, 0.9)
    newer = newer.model_copy(update={"assignment": newer.assignment.model_copy(update={"config_key": "f" * 64})})
    [group] = group_runs([newer, older], spec)
    assert list(group.runs.values()) == [newer]


def test_constraints_are_kept_by_the_means(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, constraints=["accuracy >= 0.9", "macs <= 1000000"])
    found = group_runs([*runs(A, 0.89, 0.93), *runs(B, 0.91, 0.87, first=2)], spec)
    assert [g.feasible for g in found] == [True, False]
    assert probabilities(found, spec) == [1.0, 0.0]


def test_the_frontier_is_of_the_means(spec: ExperimentSpec) -> None:
    lucky = runs(B, 0.95, 0.85, 0.86, size_bytes=50_000)
    steady = runs(A, 0.90, 0.91, first=3, size_bytes=50_000)
    assert [g.first for g in frontier(group_runs([*lucky[:1], *steady[:1]], spec), spec)] == lucky[:1]
    front = frontier(group_runs([*lucky, *steady], spec), spec)
    assert [g.first for g in front] == steady[:1]
    assert frontier_volume(front, spec, REFERENCE) == pytest.approx(0.905 * 950_000)


def test_the_first_complete_run_stands_for_a_point_that_lost_its_first_record(spec: ExperimentSpec) -> None:
    [group] = group_runs(runs(A, None, 0.9), spec)
    assert group.first.assignment.repeat == 1


def test_few_runs_are_as_uncertain_as_the_repeated_points_together(spec: ExperimentSpec) -> None:
    records = [*runs(A, 0.90, 0.94), *runs(B, 0.80, 0.81, 0.85, first=2), *runs(C, 0.7, first=5)]
    found = group_runs(records, spec)
    a, b = np.std([0.90, 0.94], ddof=1), np.std([0.80, 0.81, 0.85], ddof=1)
    pooled = math.sqrt((1 * a**2 + 2 * b**2) / 3)
    assert pooled_sd(found, "accuracy") == pytest.approx(pooled)
    expected = [pooled / math.sqrt(2), pooled / math.sqrt(3), pooled]
    assert standard_errors(found, spec) == pytest.approx(np.array([[e, 0] for e in expected]))


def test_many_runs_have_a_spread_of_their_own(spec: ExperimentSpec) -> None:
    many = [0.90, 0.91, 0.92, 0.93, 0.94]
    found = group_runs([*runs(A, *many), *runs(B, 0.5, 0.7, first=5)], spec)
    assert standard_errors(found, spec)[0, 0] == pytest.approx(np.std(many, ddof=1) / math.sqrt(5))


def test_without_repeats_accuracy_is_a_share_of_images_and_the_rest_is_exact(spec: ExperimentSpec) -> None:
    found = group_runs([*runs(A, 0.9), *runs(B, 1.0, first=1), *runs(C, None, first=2)], spec)
    assert pooled_sd(found, "accuracy") is None
    assert standard_errors(found, spec) == pytest.approx(np.array([[math.sqrt(0.9 * 0.1 / 179), 0], [0, 0], [0, 0]]))
    other = ExperimentSpec.model_validate(
        {**spec.model_dump(), "objectives": {"balanced_accuracy": "maximize", "cross_entropy": "minimize"}}
    )
    errors = standard_errors(group_runs([make_record(0, {"w_bits": 4}, 0.9)], other), other)
    assert errors == pytest.approx(np.array([[math.sqrt(0.89 * 0.11 / 179), 0]]))


def slow_probability(means: np.ndarray, errors: np.ndarray, draws: int) -> np.ndarray:
    """Every pair of every draw."""
    rng = np.random.default_rng(99)
    wins = np.zeros(len(means))
    for _ in range(draws):
        true = means + errors * rng.standard_normal(means.shape)
        for i, row in enumerate(true):
            wins[i] += not any((other <= row).all() and (other < row).any() for other in true)
    return wins / draws


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_probability_is_that_of_comparing_every_pair_of_every_draw(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    means, errors = rng.random((12, objectives)), rng.random((12, objectives)) * 0.1
    errors[::3, 0] = 0
    found = probability_non_dominated(means, errors, draws=4_000)
    # Five standard deviations of the difference of two shares of 4,000 and 1,500 draws, at most.
    assert found == pytest.approx(
        slow_probability(means, errors, 1_500), abs=5 * math.sqrt(0.25 / 4_000 + 0.25 / 1_500)
    )


@pytest.mark.parametrize("exact", [0, 1])
def test_an_exact_objective_changes_nothing_but_the_time(exact: int) -> None:
    rng = np.random.default_rng(5)
    errors = np.full((30, 2), 0.1)
    errors[::4] = 0
    errors[:, exact] = 0
    drawn = rng.integers(0, 5, (30, 2)) * 0.1 + errors * rng.standard_normal((300, 30, 2))
    found = non_dominated_in_each(drawn, exact=exact)
    assert found.tolist() == [non_dominated(rows).tolist() for rows in drawn]
    assert 0 < found.mean() < 0.5


@pytest.mark.parametrize(("gap", "error"), [(0.0, 0.01), (0.01, 0.01), (0.03, 0.01), (0.02, 0.005)])
def test_of_two_points_the_probability_is_exact(gap: float, error: float) -> None:
    means, errors = np.array([[0.0, 1.0], [gap, 2.0]]), np.array([[error, 0.0], [error, 0.0]])
    better = NormalDist().cdf(gap / (error * math.sqrt(2)))  # the first one is better in both
    found = probability_non_dominated(means, errors, draws=20_000)
    assert found == pytest.approx([1.0, 1 - better], abs=5 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_exact_costs_are_on_the_frontier_or_not(objectives: int) -> None:
    means = np.random.default_rng(0).integers(0, 5, (60, objectives)).astype(float)
    found = probability_non_dominated(means, np.zeros_like(means))
    assert found.tolist() == non_dominated(means).astype(float).tolist()
    assert probability_non_dominated(means[:0], means[:0]).tolist() == []


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_many_matrices_at_once_are_each_by_itself(objectives: int) -> None:
    costs = np.random.default_rng(1).integers(0, 4, (200, 9, objectives)).astype(float)
    assert (non_dominated_in_each(costs) == [non_dominated(rows) for rows in costs]).all()


def test_leaving_out_far_points_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    means, errors = rng.random((80, 2)), np.full((80, 2), 0.01)
    drawn: list[int] = []

    def spy(costs: np.ndarray, **known: Any) -> np.ndarray:
        drawn.append(costs.shape[1])
        return non_dominated_in_each(costs, **known)

    monkeypatch.setattr("tune_app.frontier.chance.non_dominated_in_each", spy)
    found = probability_non_dominated(means, errors)
    assert drawn[0] < 40
    monkeypatch.setattr("tune_app.frontier.chance.FAR", 1e6)
    assert found == pytest.approx(probability_non_dominated(means, errors), abs=5 * math.sqrt(0.5 / 2_000))
    assert drawn[-1] == 80


def test_the_same_records_give_the_same_probability_in_any_order(spec: ExperimentSpec) -> None:
    records = [*runs(A, 0.90, 0.92), *runs(B, 0.90, first=2, size_bytes=90_000), *runs(C, None, first=3)]
    found, turned = group_runs(records, spec), group_runs(records[::-1], spec)
    assert probabilities(found, spec) == probabilities(turned, spec)
    assert probabilities(found, spec)[2] is None


def race(records: Sequence[TrialRecord], spec: ExperimentSpec, **changes: Any) -> tuple[Any, int] | None:
    found = group_runs(records, spec)
    repeats = Repeats.model_validate({**RACE, **changes.pop("repeats", {})})
    chosen = next_repeat(found, changes.pop("chances", None) or probabilities(found, spec), repeats, **changes)
    return None if chosen is None else (chosen[0].first.assignment.params, chosen[1])


def test_fewest_runs_go_first_then_the_likeliest_then_the_first_proposed(spec: ExperimentSpec) -> None:
    records = [*runs(A, 0.9, 0.9), *runs(B, 0.8, first=2), *runs(C, 0.7, first=3)]
    assert race(records, spec, chances=[1.0, 0.2, 0.3]) == (C, 1)
    assert race(records, spec, chances=[1.0, 0.3, 0.3]) == (B, 1)
    assert race(records, spec, chances=[1.0, 0.01, 0.3]) == (C, 1)
    assert race(records, spec, chances=[1.0, 0.01, 0.01]) == (A, 2)
    assert race(records, spec, chances=[0.04, 0.04, 0.04]) is None
    assert race(records, spec, chances=[0.04, 0.04, 0.05]) == (C, 1)


def test_a_point_has_no_more_runs_than_seeds(spec: ExperimentSpec) -> None:
    assert race(runs(A, 0.9, 0.9, 0.9), spec) is None
    assert race(runs(A, 0.9, 0.9, 0.9), spec, repeats={"seeds": 4}) == (A, 3)


def test_a_failed_run_is_a_run(spec: ExperimentSpec) -> None:
    assert race(runs(A, 0.9, None), spec) == (A, 2)
    assert race(runs(A, 0.9, None, None), spec) is None


def test_points_without_result_or_outside_the_constraints_do_not_run_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, constraints=["accuracy >= 0.5"])
    assert race([*runs(A, None), *runs(B, 0.4, first=1)], spec, repeats={"min_probability": 0}) is None


def test_what_runs_already_is_a_run(spec: ExperimentSpec) -> None:
    records = [*runs(A, 0.9), *runs(B, 0.8, first=1, size_bytes=50_000)]
    a, b = (g.point for g in group_runs(records, spec))
    chances = [0.9, 0.8]
    assert race(records, spec, chances=chances, started={(a, 1)}) == (B, 1)
    assert race(records, spec, chances=chances, started={(a, 1), (b, 1)}) == (A, 2)
    assert race(records, spec, chances=chances, started={(a, 1), (a, 2), (b, 1), (b, 2)}) is None


def noisy(work: Assignment, *, fails: bool = False) -> TrialRecord:
    """The closed form with an error of about half a point that depends on the run."""
    record = closed_form(work, state="failed" if fails else "complete")
    if fails:
        return record
    error = 0.01 * (int(work.config_key[:8], 16) / 2**32 - 0.5)
    measured = record.result.measurement.model_copy(  # type: ignore[union-attr]
        update={"accuracy": record.metrics()["accuracy"] + error, "n": 2_000}
    )
    return record.model_copy(update={"result": record.result.model_copy(update={"measurement": measured})})


def drive(
    proposer: Proposer, *, parallel: int = 2, stop_after: int | None = None, failing: bool = False
) -> list[TrialRecord]:
    def run(work: Assignment) -> TrialRecord:
        return noisy(work, fails=failing and work.repeat > 0)

    return drive_with(proposer, run, parallel=parallel, stop_after=stop_after)


def repeated(records: Sequence[TrialRecord]) -> list[Assignment]:
    return [r.assignment for r in records if r.assignment.repeat > 0]


@pytest.fixture
def searched(tmp_path: Path) -> ExperimentSpec:
    return make_spec(tmp_path, space=SPACE, budget={"trials": 15}, repeats=RACE)


@pytest.mark.parametrize("parallel", [1, 4])
def test_after_the_trials_points_that_may_be_on_the_frontier_run_again(parallel: int, searched: ExperimentSpec) -> None:
    proposer = open_proposer(searched)
    done = drive(proposer, parallel=parallel)
    again = repeated(done)
    assert in_full(done) == proposer.spent.trials == 15
    assert {w.repeat for w in done_work(done)[:15]} == {0}
    assert done_work(done)[15:] == again != []
    found = group_runs(done, searched)
    for group, chance in zip(found, probabilities(found, searched), strict=True):
        assert len(group.runs) == 3 or (chance is not None and chance < 0.05)
    assert {len(g.runs) for g in found} >= {1, 3}
    assert not wants_repeats(done, searched)


def done_work(records: Sequence[TrialRecord]) -> list[Assignment]:
    return [r.assignment for r in records]


def test_a_repeat_is_named_after_its_point_and_has_a_seed_of_its_own(searched: ExperimentSpec) -> None:
    done = drive(open_proposer(searched))
    labels = {r.assignment.label for r in done}
    for work in repeated(done):
        assert work.rung == FULL
        assert work.label.endswith(f"#{work.repeat + 1}")
        assert work.label.partition("#")[0] in labels
        assert work.config_key == key_of(work.params, work.repeat)
        assert work.seed == repeat_seed(0, work.repeat) != 0
    assert len({r.assignment.trial_id for r in done}) == len(done)
    assert [w.number for w in done_work(done)] == list(range(len(done)))


def test_without_repeats_in_the_spec_nothing_runs_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 15})
    done = drive(open_proposer(spec))
    assert len(done) == 15
    assert not wants_repeats(done, spec)


@pytest.mark.parametrize("spent", [{"wall_s": 100}, {"training_s": 30.0}])
def test_repeats_need_time_too(spent: dict[str, float], tmp_path: Path) -> None:
    now = [0.0]
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 15, **spent}, repeats=RACE)
    proposer = open_proposer(spec, clock=lambda: now[0])
    first = drive(proposer, stop_after=17, parallel=1)  # 1.5 s of training each
    now[0] = 101.0
    assert [w.repeat for w in repeated(first)] == [1, 1]
    assert (drive(proposer) == []) is ("wall_s" in spent)
    assert proposer.spent.training_s < 33


def test_repeats_follow_stagnation_and_the_end_of_the_space(tmp_path: Path) -> None:
    still = {"trials": 100, "stagnation": {"trials": 10, "gain": 0.01}}
    done = drive(open_proposer(make_spec(tmp_path, space=SPACE, budget=still, repeats=RACE)))
    assert in_full(done) < 100
    assert repeated(done)
    small = drive(open_proposer(make_spec(tmp_path, budget={"trials": 1_000}, repeats=RACE)))
    assert in_full(small) == 18
    assert {w.repeat for w in done_work(small)[:18]} == {0}
    assert repeated(small)


def test_repeats_teach_no_sampler_and_no_rung(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 8}, repeats=RACE)
    proposer = open_proposer(spec)
    done = drive(proposer)
    rungs = Counter(r.assignment.rung for r in done if r.assignment.repeat == 0)
    assert rungs[FULL] == 8
    assert {w.rung for w in repeated(done)} == {FULL}
    for found in (proposer, open_proposer(spec, done)):
        assert sum(t.state.name == "COMPLETE" for t in optuna_trials(found)) == rungs[FULL]
        assert found.ladder.agreements()[-1].pairs == rungs[FULL]
        assert found.spent.trials == len(found.spent.volumes) == 8


def test_points_still_on_their_way_up_come_before_repeats(tmp_path: Path) -> None:
    space = {"prune_frac": [0.0], "w_bits": [4, 8], "a_bits": [8]}
    spec = make_laddered(tmp_path, space=space, sampler={"name": "grid"}, budget={"trials": 9}, repeats=RACE)
    done = drive(open_proposer(spec), parallel=3)
    assert [w.repeat for w in done_work(done)[:6]] == [0] * 6
    assert sorted(w.repeat for w in done_work(done)[6:]) == [1, 1, 2, 2]


@pytest.mark.parametrize("cut", [14, 16, 19])
def test_a_restart_among_repeats_goes_on(cut: int, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=SPACE, sampler={"name": "grid"}, budget={"trials": 15}, repeats=RACE)
    whole = drive(open_proposer(spec), parallel=1)
    assert len(whole) > 20
    dying = open_proposer(spec)
    first = drive(dying, parallel=1, stop_after=cut)
    running = dying.next()
    assert running is not None
    rest = drive(open_proposer(spec, first[::-1], in_flight=dying.pending), parallel=1)
    assert rest[0].assignment == running
    assert done_work([*first, *rest]) == done_work(whole)


def test_in_flight_repeats_are_dropped_with_the_wish_for_them(searched: ExperimentSpec) -> None:
    dying = open_proposer(searched)
    done = drive(dying, parallel=1, stop_after=16)
    assert dying.next() is not None
    assert dying.pending[0].repeat == 1
    without = searched.model_copy(update={"repeats": None})
    assert open_proposer(without, done, in_flight=dying.pending).next() is None


def test_a_repeat_whose_worker_is_lost_runs_again_as_the_same_repeat(searched: ExperimentSpec) -> None:
    proposer = open_proposer(searched)
    drive(proposer, parallel=1, stop_after=15)
    lost, other = proposer.next(), proposer.next()
    assert lost is not None
    assert other is not None
    assert (lost.repeat, other.repeat) == (1, 1)
    assert lost.params != other.params
    proposer.requeue(lost)
    assert proposer.pending == [other, lost]
    assert proposer.next() == lost


def test_failed_repeats_are_not_tried_again(tmp_path: Path) -> None:
    budget = {"trials": 15, "failed_share": 1}
    done = drive(open_proposer(make_spec(tmp_path, space=SPACE, budget=budget, repeats=RACE)), failing=True)
    again = repeated(done)
    assert len({(w.label, w.repeat) for w in again}) == len(again) > 0
    assert max(w.repeat for w in again) == 2


def test_a_larger_budget_after_repeats_brings_new_points_and_then_their_repeats(searched: ExperimentSpec) -> None:
    before = drive(open_proposer(searched))
    wider = searched.model_copy(update={"budget": searched.budget.model_copy(update={"trials": 25})})
    after = drive(open_proposer(wider, before))
    assert [w.repeat for w in done_work(after)[:10]] == [0] * 10
    assert in_full([*before, *after]) == 25
    assert not wants_repeats([*before, *after], wider)
    assert len({r.assignment.trial_id for r in [*before, *after]}) == len(before) + len(after)


def test_the_live_view_counts_repeats_by_themselves(searched: ExperimentSpec) -> None:
    proposer = open_proposer(searched)
    done = drive(proposer)
    status = Status(searched, records=done, done=proposer.spent.trials, reference=REFERENCE)
    assert (status.done, status.repeats) == (15, len(done) - 15)
    assert status.seconds_left() is None
    front: list[PointRuns] = frontier(group_runs(done, searched), searched)
    rows = np.array([[-g.mean["accuracy"], g.mean["size_bytes"]] for g in front])
    assert status.hypervolume(status.frontier()) == pytest.approx(hypervolume(rows, [0.0, 1e6]))


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"seeds": 101}, {"min_probability": 1.5}, {"sedes": 3}])
def test_illegal_repeats_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="repeats"):
        make_spec(tmp_path, repeats=wrong)
