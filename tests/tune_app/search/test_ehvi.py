"""The search by expected improvement per second, without Ray and without training."""

import functools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from search_spaces.rungs import FULL
from tests.tune_app.factories import REFERENCE, drive_with, make_record, make_spec, make_steps
from tests.tune_app.search.test_ladder import closed_form, count, drive, make_laddered, open_proposer
from trainables.config import digest
from tune_app.frontier.pareto import costs, hypervolume
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.ehvi import FIRST, Ehvi
from tune_app.search.keys import remembered_keys, steps_of
from tune_app.search.ladder import Ladder
from tune_app.search.prices import Prices
from tune_app.search.proposer import Proposer
from tune_app.search.strategy import OUTLOOK, Setting
from tune_app.spec.experiment import Budget, ExperimentSpec
from tune_app.surrogates.features import features
from tune_app.surrogates.gains import ExpectedGains

EHVI = {"name": "ehvi"}
QAT_BASE = make_laddered(Path()).base
WIDE = {"prune_frac": {"low": 0.0, "high": 0.7, "step": 0.1}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [3, 4, 6, 8]}


def open_ehvi(spec: ExperimentSpec, records: Sequence[TrialRecord] = ()) -> Ehvi:
    ladder = Ladder(spec, REFERENCE)
    known = (spec, ladder, lambda params, _=0: digest(dict(params)), make_steps, lambda params: "", REFERENCE)
    strategy = Ehvi(Setting(*known, finished=len(records)))
    for record in records:
        ladder.add(record)
        strategy.replay(record)
    return strategy


def volume(records: Sequence[TrialRecord], spec: ExperimentSpec) -> float:
    names, directions = list(spec.objectives), list(spec.objectives.values())
    rows = [[r.metrics()[n] for n in names] for r in records if r.assignment.rung == FULL]
    corner = costs(np.array([[REFERENCE[n] for n in names]]), directions)[0]
    return hypervolume(costs(np.array(rows), directions), corner)


def test_it_finds_more_in_few_trials_than_the_grid_in_random_order(tmp_path: Path) -> None:
    def found(sampler: str, seed: int) -> float:
        changes = {"sampler": {"name": sampler, "seed": seed}, "budget": {"trials": 16}, "space": WIDE}
        spec = make_spec(tmp_path / sampler, base=QAT_BASE, fidelity=None, **changes)
        return volume(drive(open_proposer(spec)), spec)

    assert sum(found("ehvi", seed) for seed in range(3)) > sum(found("shuffled_grid", seed) for seed in range(3))


def test_corners_come_first_then_the_model(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=QAT_BASE, fidelity=None, budget={"trials": 10})
    first = [r.assignment.params for r in drive(open_proposer(spec))[:FIRST]]
    assert first == spec.space.corners(spec.sampler.seed)[:FIRST]


def test_before_anything_has_ended_workers_share_what_they_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prices, "paces", lambda _: {"qat": 1.0, "ptq": 1.0, "channel_prune": 1_000.0})
    spec = make_laddered(tmp_path, space={**WIDE, "prune_frac": [0.3, 0.5, 0.7]}, sampler=EHVI)
    proposer = open_proposer(spec)
    started = [proposer.next() for _ in range(8)]
    points = [work.params for work in started if work is not None]
    assert len(points) == 8
    assert len({point["prune_frac"] for point in points}) == 1


def test_the_first_trials_lie_far_from_each_other(tmp_path: Path) -> None:
    def nearest(points: Sequence[Params]) -> float:
        return float(pdist(features(spec.space, points)).min())

    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI)
    proposer, draw = open_proposer(spec), random.Random(0)
    started = [work.params for work in (proposer.next() for _ in range(8)) if work is not None]
    points = list(spec.space.grid())
    assert nearest(started) > max(nearest(draw.sample(points, 8)) for _ in range(200))


@pytest.mark.parametrize(
    ("ladder", "advised", "count"), [(True, False, 7), (False, False, 3), (True, True, 0), (False, True, 0)]
)
def test_the_model_begins_after_a_few_trials_and_advice_stands_in(
    *, ladder: bool, advised: bool, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial is a corner; a look counts half of a full trial."""
    calls, remote = [], Ehvi._most_remote
    monkeypatch.setattr(Ehvi, "_most_remote", lambda *given: calls.append(0) or remote(*given))
    make = make_laddered if ladder else functools.partial(make_spec, base=QAT_BASE, fidelity=None)
    spec = make(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 10})
    advice = [make_record(i, params) for i, params in zip(range(9), spec.space.grid(), strict=False)]
    drive(open_proposer(spec, advice=advice if advised else ()), parallel=1)
    assert len(calls) == count


def test_a_point_only_climbs_and_only_promising_ones_reach_the_top(tmp_path: Path) -> None:
    done = drive(open_proposer(make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 12})))
    order = ["ptq", "short", FULL]
    reached: dict[str, int] = {}
    for record in done:
        key, rung = record.assignment.config_key, order.index(record.assignment.rung)
        assert reached.get(key, -1) < rung
        reached[key] = rung
    counts = count(done)
    assert counts[FULL] == 12
    assert counts["ptq"] > counts["short"]
    assert len(reached) > 12


@pytest.mark.parametrize(
    ("told", "in_use", "rung"),
    [(0.0, ["ptq", "short", FULL], FULL), (0.999, ["ptq", "short", FULL], "ptq"), (0.999, ["short", FULL], FULL)],
)
def test_a_lower_rung_comes_first_where_it_tells_what_the_full_one_would(
    told: float, in_use: list[str], rung: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full trial that gains much or nothing, at the usual rate of gain a second.

    The last case has skipped the rung that would pay; in these tests a short trial costs what a full one does.
    """
    monkeypatch.setattr("tune_app.surrogates.process.Process.correlation", lambda *_: told)
    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 12})
    records = drive(open_proposer(spec), stop_after=12)
    strategy = open_ehvi(spec, records)
    monkeypatch.setattr(Ladder, "rungs", in_use)
    monkeypatch.setattr(Prices, "paces", lambda _: {"qat": 100.0, "ptq": 1.0, "channel_prune": 1.0})
    nothing_runs = np.empty((0, 3))
    strategy._evidence.teach(nothing_runs)
    seen = [r.assignment.params for r in records]
    chosen = next(c for c in strategy._candidates if c.params not in seen)
    expected = ExpectedGains(spec, strategy._evidence.surrogates, strategy._free_space(nothing_runs))
    [gain] = expected.in_full(chosen.row[None])
    [seconds] = strategy._prices.seconds([chosen.steps], set())
    assert strategy._best_rung(chosen, gain, gain / seconds, expected, set()) == rung


def test_a_bound_keeps_the_search_where_trials_are_feasible(tmp_path: Path) -> None:
    bounds = ["size_bytes <= 200000"]
    changes = {"space": WIDE, "sampler": EHVI, "budget": {"trials": 16}, "base": QAT_BASE, "fidelity": None}
    done = drive(open_proposer(make_spec(tmp_path, constraints=bounds, **changes)))
    later = [r.metrics()["size_bytes"] <= 200_000 for r in done[FIRST + 4 :]]
    assert sum(later) >= 0.75 * len(later)


@pytest.mark.parametrize(
    "objectives",
    [
        {"accuracy": "maximize"},
        {"accuracy": "maximize", "size_bytes": "minimize", "macs": "minimize"},
        {"size_bytes": "minimize", "compression_ratio": "maximize"},
    ],
)
def test_one_to_three_objectives_of_any_kind(objectives: dict[str, str], tmp_path: Path) -> None:
    changes = {"space": WIDE, "sampler": EHVI, "budget": {"trials": 8}, "base": QAT_BASE, "fidelity": None}
    done = drive(open_proposer(make_spec(tmp_path, objectives=objectives, **changes)))
    assert len(done) == 8


def at_chance(work: Assignment) -> TrialRecord:
    """Up to 3 bits nothing works before training, and all is well after it."""
    found = closed_form(work)
    if work.rung != "ptq" or int(work.params["w_bits"]) > 3:
        return found
    size = round(found.metrics()["size_bytes"])
    bad = make_record(work.number, work.params, 0.1, size, "invalid", kind="Collapsed", rung="ptq", measured=True)
    return bad.model_copy(update={"assignment": work})


@pytest.mark.parametrize("sampler", ["ehvi", "random"])
def test_a_network_at_chance_before_training_may_still_be_trained(sampler: str, tmp_path: Path) -> None:
    rungs = [{"name": "ptq", "qat_epochs": 0}]
    changes = {"space": WIDE, "sampler": sampler, "budget": {"trials": 20}, "fidelity": {"rungs": rungs, "eta": 2}}
    spec = make_spec(tmp_path, base=QAT_BASE, **changes)
    proposer = Proposer(
        spec,
        key_of=remembered_keys(spec, "base"),
        steps_of=lambda params, rung: steps_of(spec, "base", params, rung),
        reference=REFERENCE,
    )
    done = drive_with(proposer, at_chance, parallel=2)
    poor = {r.assignment.config_key for r in done if r.is_at_chance}
    assert poor
    trained = [r for r in done if r.assignment.rung == FULL and r.assignment.config_key in poor]
    assert trained


def test_points_of_one_configuration_run_once(tmp_path: Path) -> None:
    """Without pruning its criterion changes nothing: six configurations of eight points."""
    space = {"prune_frac": [0.0, 0.3], "importance": ["l1", "l2"], "w_bits": [4, 8]}

    def key_of(params: Params, repeat: int = 0) -> str:
        return digest({n: v for n, v in params.items() if params["prune_frac"] or n != "importance"})

    spec = make_spec(tmp_path, space=space, sampler=EHVI, budget={"trials": 100})
    proposer = Proposer(spec, key_of=key_of, steps_of=make_steps, reference=REFERENCE)
    done = drive(proposer, parallel=4, stop_after=50)
    assert len(done) == len({r.assignment.config_key for r in done}) == 6


@pytest.mark.parametrize("fewer", [["w_bits"], ["rungs"], []])
def test_a_search_goes_on_after_its_space_or_its_rungs_have_changed(fewer: list[str], tmp_path: Path) -> None:
    before = make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 4})
    done = drive(open_proposer(before), stop_after=12)
    space = {"prune_frac": WIDE["prune_frac"], "a_bits": [3, 8]} if fewer == ["w_bits"] else WIDE
    space = space if fewer else {**WIDE, "qat_lr": [0.01, 0.02]}
    rungs = {"fidelity": None} if fewer == ["rungs"] else {}
    after = make_laddered(tmp_path, space=space, sampler=EHVI, budget={"trials": 12}, **rungs)
    more = drive(open_proposer(after, done))
    places = [(r.assignment.config_key, r.assignment.rung) for r in [*done, *more]]
    assert len(places) == len(set(places))
    assert count(more)[FULL] > 4


def test_points_beside_the_grid_run_in_full(tmp_path: Path) -> None:
    named = {"prune_frac": 0.25, "w_bits": 5, "a_bits": 8}
    spec = make_laddered(tmp_path, points=[named], sampler=EHVI, budget={"trials": 1000})
    done = drive(open_proposer(spec))
    assert count(done)[FULL] == spec.space.size + 1
    assert FULL in [r.assignment.rung for r in done if r.assignment.params == named]


def test_a_restart_does_not_lift_the_first_points_nor_draw_the_same_again(tmp_path: Path) -> None:
    poor = [{"prune_frac": 0.7, "w_bits": 2, "a_bits": a} for a in (3, 4)]

    def hopeless(work: Assignment) -> TrialRecord:
        found = closed_form(work)
        if work.params not in poor:
            return found
        record = make_record(work.number, work.params, 0.12, 900_000, rung=work.rung)
        return record.model_copy(update={"assignment": work})

    spec = make_laddered(tmp_path, space=WIDE, points=poor, sampler=EHVI, budget={"trials": 30})
    done: list[TrialRecord] = []
    for _ in range(3):
        done += drive_with(open_proposer(spec, done), hopeless, parallel=1, stop_after=8)
    assert [r.assignment.rung for r in done if r.assignment.params in poor] == ["ptq", "ptq"]
    corner = spec.space.corners(spec.sampler.seed)[0]
    named = make_laddered(tmp_path, space=WIDE, points=[corner], sampler=EHVI, budget={"trials": 30})
    assert drive(open_proposer(named), parallel=1, stop_after=2)[1].assignment.params != corner
    fine = {**WIDE, "prune_frac": {"low": 0.0, "high": 0.999, "step": 0.001}}
    large = make_spec(tmp_path, base=QAT_BASE, space=fine, sampler=EHVI, fidelity=None)
    drawn = [{c.key for c in open_ehvi(large, done[:n])._candidates} for n in (0, 1)]
    assert len(drawn[0] & drawn[1]) < 0.1 * len(drawn[0])


@pytest.mark.parametrize("parallel", [1, 5])
def test_with_bounds_too_a_search_ends_after_the_last_point_that_they_allow(
    parallel: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_app.search.candidates.MOST", 20)
    changes = {"base": QAT_BASE, "fidelity": None, "budget": {"trials": 1000}}
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, **changes)

    def bounds(params: Params) -> str:
        return "" if params["prune_frac"] == 0.3 and params["w_bits"] == 4 else "too large"

    assert len(drive(open_proposer(spec, bounds=bounds), parallel=parallel)) == 4


def test_a_running_trial_that_is_believed_to_break_a_bound_takes_no_volume(tmp_path: Path) -> None:
    changes = {"base": QAT_BASE, "fidelity": None, "constraints": ["size_bytes <= 150000"], "budget": {"trials": 40}}
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, **changes)
    strategy = open_ehvi(spec, drive(open_proposer(spec), parallel=1, stop_after=10))
    rows = features(spec.space, [{"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}])
    strategy._evidence.teach(rows)
    assert strategy._evidence.surrogates["size_bytes"].median(rows) > 150_000
    feasible = [candidate.row for candidate in strategy._candidates if candidate.params["w_bits"] == 4]

    def gains(running: np.ndarray) -> list[float]:
        space = strategy._free_space(running)
        return ExpectedGains(spec, strategy._evidence.surrogates, space).in_full(np.stack(feasible)).tolist()

    assert gains(rows) == gains(np.empty((0, 3)))


def test_failed_points_are_not_tried_again_and_teach_nothing(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler=EHVI)
    points = list(spec.space.grid())
    records = [make_record(i, p, state="invalid", rung="ptq") for i, p in enumerate(points[:-1])]
    choice = open_ehvi(spec, records).suggest(())
    assert choice is not None
    assert (choice.params, choice.rung) == (points[-1], "ptq")


def test_what_lies_near_the_best_full_trials_is_a_candidate(tmp_path: Path) -> None:
    fine = {"low": 0.0, "high": 0.999, "step": 0.001}
    space = {"prune_frac": fine, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}
    spec = make_spec(tmp_path, space=space, sampler=EHVI, base=QAT_BASE, fidelity=None)
    first, later = ({"prune_frac": p, "w_bits": 4, "a_bits": 8} for p in (0.5, 0.7))
    strategy = open_ehvi(spec, [make_record(0, first)])
    points = [candidate.params for candidate in strategy._candidates]
    assert {**first, "prune_frac": 0.501} in points
    assert {**later, "w_bits": 3} not in points
    strategy.replay(make_record(1, later, size_bytes=50_000))
    assert {**later, "w_bits": 3} in [candidate.params for candidate in strategy._candidates]


@pytest.mark.parametrize("parallel", [1, 5])
def test_a_space_that_is_too_large_to_compare_is_searched_to_its_last_point(
    parallel: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point that was looked at on a lower rung is there again when that has ended, also after a resume."""
    monkeypatch.setattr("tune_app.search.candidates.MOST", 20)
    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 1000})
    before = drive(open_proposer(spec), parallel=parallel, stop_after=60)
    after = drive(open_proposer(spec, before), parallel=parallel)
    full = [r.assignment.config_key for r in [*before, *after] if r.assignment.rung == FULL]
    assert len(full) == len(set(full)) == spec.space.size


def test_many_trials_of_a_lower_rung_alone_teach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_app.surrogates.evidence.MOST_LEARNED", 8)
    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI)
    records = [make_record(i, p, rung="ptq") for i, p in enumerate(spec.space.grid()) if i < 20]
    assert open_ehvi(spec, records).suggest(()) is not None


def test_advice_of_another_base_finds_the_good_points_sooner(tmp_path: Path) -> None:
    """The other base is a larger network: the same effects on another scale."""

    def found(*, advised: bool) -> float:
        volumes = []
        for seed in range(6):
            changes = {"sampler": {"name": "ehvi", "seed": seed}, "budget": {"trials": 6}, "space": WIDE}
            spec = make_spec(tmp_path / str(seed), base=QAT_BASE, fidelity=None, **changes)
            grid = enumerate(spec.space.grid())
            known = [
                closed_form(Assignment(number=i, config_key="", params=p, rung=FULL, seed=0))
                for i, p in grid
                if i % 3 == seed % 3
            ]
            larger = [
                make_record(i, r.assignment.params, r.metrics()["accuracy"] + 0.02, 5 * r.metrics()["size_bytes"])
                for i, r in enumerate(known)
            ]
            volumes.append(volume(drive(open_proposer(spec, advice=larger if advised else ())), spec))
        return float(np.mean(volumes))

    assert found(advised=True) > found(advised=False)


def test_advice_is_no_result_and_has_no_say_in_what_is_left_to_try(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, sampler=EHVI, budget={"trials": 100})
    advice = [make_record(i, p) for i, p in enumerate(spec.space.grid())]
    assert len(drive(open_proposer(spec, advice=advice))) == spec.space.size


def test_of_many_trials_the_surrogates_learn_from_the_best_and_from_some_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_app.surrogates.evidence.MOST_LEARNED", 60)
    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 80})
    done = drive(open_proposer(spec), stop_after=90)
    strategy = open_ehvi(spec, done)
    chosen = strategy._evidence._worth_learning()
    assert len(chosen) == len({id(trial) for trial in chosen}) == 60
    assert {trial.rung for trial in chosen} == {r.assignment.rung for r in done}
    full = [trial for trial in strategy._evidence.trials if trial.rung == FULL]
    front = {id(trial) for trial in full if (trial.costs == strategy._front).all(axis=1).any()}
    assert len(front) > 40 <= len(front & {id(trial) for trial in chosen})
    assert strategy.suggest(()) is not None


def test_the_same_records_and_seed_give_the_same_choice(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=QAT_BASE, fidelity=None, budget={"trials": 9})
    done = drive(open_proposer(spec), parallel=1)
    assert [r.assignment for r in drive(open_proposer(spec), parallel=1)] == [r.assignment for r in done]


def test_running_points_are_not_proposed_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=QAT_BASE, fidelity=None, budget={"trials": 30})
    done = drive(open_proposer(spec), parallel=8)
    assert len({r.assignment.config_key for r in done}) == 30


def test_a_search_ends_when_the_next_trials_promise_little(tmp_path: Path) -> None:
    """Trials of this form take 1.5 s, and an hour has thousands of them: only a hopeless outlook is below the bar."""
    budget = {"trials": 160, "stop_below": 1.0}
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=QAT_BASE, fidelity=None, budget=budget)
    proposer = open_proposer(spec)
    done = drive(proposer)
    assert 10 <= len(done) < 160
    assert proposer.done.startswith("little to expect of the next 10 trials: ")
    assert open_proposer(spec, done).next() is None
    told = [r.assignment.sampler_attrs[OUTLOOK]["growth"] for r in done if r.assignment.sampler_attrs]
    assert told[0] > told[-1]
    without = spec.model_copy(update={"budget": Budget(trials=160)})
    assert volume(done, spec) > 0.99 * volume(drive(open_proposer(without)), spec)
