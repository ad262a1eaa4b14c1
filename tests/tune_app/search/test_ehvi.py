"""The search by expected improvement per second, without Ray and without training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from search_spaces.rungs import FULL
from tests.tune_app.factories import REFERENCE, make_record, make_spec, make_steps
from tests.tune_app.search.test_ladder import count, drive, make_laddered, open_proposer
from trainables.results import StageRun
from tune_app.frontier.pareto import costs, hypervolume
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.ehvi import FIRST, Ehvi
from tune_app.search.ladder import Ladder
from tune_app.search.strategy import Setting
from tune_app.spec.experiment import ExperimentSpec

EHVI = {"name": "ehvi"}
WIDE = {"prune_frac": {"low": 0.0, "high": 0.7, "step": 0.1}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [3, 4, 6, 8]}


def open_ehvi(spec: ExperimentSpec, records: Sequence[TrialRecord] = ()) -> Ehvi:
    ladder = Ladder(spec, REFERENCE)
    known = (spec, ladder, lambda params, _=0: "", make_steps, lambda params: "", REFERENCE)
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
        spec = make_spec(tmp_path / sampler, base=make_laddered(tmp_path).base, **changes)
        return volume(drive(open_proposer(spec)), spec)

    assert sum(found("ehvi", seed) for seed in range(3)) > sum(found("shuffled_grid", seed) for seed in range(3))


def test_corners_come_first_then_the_model(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=make_laddered(tmp_path).base, budget={"trials": 10})
    first = [r.assignment.params for r in drive(open_proposer(spec))[:FIRST]]
    assert first == spec.space.corners(spec.sampler.seed)[:FIRST]


def test_before_anything_has_ended_workers_share_what_they_compute(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, space={**WIDE, "prune_frac": [0.3, 0.5, 0.7]}, sampler=EHVI)
    proposer = open_proposer(spec)
    started = [proposer.next() for _ in range(8)]
    points = [work.params for work in started if work is not None]
    assert len(points) == 8
    assert len({point["prune_frac"] for point in points}) == 1


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
    monkeypatch.setattr("tune_app.search.process.Process.correlation", lambda *_: told)
    spec = make_laddered(tmp_path, space=WIDE, sampler=EHVI, budget={"trials": 12})
    records = drive(open_proposer(spec), stop_after=12)
    strategy = open_ehvi(spec, records)
    monkeypatch.setattr(Ladder, "rungs", in_use)
    strategy._spent = {"qat": [200.0, 2.0], "ptq": [1.0, 1.0]}  # type: ignore[assignment]
    strategy._learn([place for place, metrics in strategy._seen.items() if metrics], ())
    seen = {tuple(sorted(r.assignment.params.items())) for r in records}
    params = next(p for p in spec.space.grid() if tuple(sorted(p.items())) not in seen)
    front = strategy._front(())
    gain = float(strategy._gains([params], front)[0])
    rate = gain / strategy._seconds(params, FULL, set())
    assert strategy._best_rung(params, gain, rate, front, set()) == rung


def test_what_the_cache_has_is_cheaper(tmp_path: Path) -> None:
    """Two points of equal promise: the one whose parent is there goes first."""
    spec = make_spec(tmp_path, base=make_laddered(tmp_path).base, sampler=EHVI, space=WIDE)
    strategy = open_ehvi(spec)
    ready = {step.key for step in make_steps({"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, FULL)[:1]}
    strategy._spent = {"qat": [20.0, 2.0], "channel_prune": [30.0, 3.0]}  # type: ignore[assignment]
    near = strategy._seconds({"prune_frac": 0.3, "w_bits": 6, "a_bits": 8}, FULL, ready)
    far = strategy._seconds({"prune_frac": 0.2, "w_bits": 6, "a_bits": 8}, FULL, ready)
    assert near == pytest.approx(20.3)
    assert far == pytest.approx(50.3)


def test_paces_are_seconds_per_epoch_of_what_was_computed(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, base=make_laddered(tmp_path).base, sampler=EHVI, space=WIDE)
    params = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    parent, own = make_steps(params, FULL)
    stages = [
        StageRun(kind="train", key="0" * 64, seconds=99.0, cached=False),
        StageRun(kind=parent.kind, key=parent.key, seconds=0.1, cached=True),
        StageRun(kind=own.kind, key=own.key, seconds=8.0, cached=False),
    ]
    record = make_record(0, params)
    record = record.model_copy(update={"result": record.result.model_copy(update={"stages": stages})})
    assert dict(open_ehvi(spec, [record])._spent) == {"qat": [8.0, 2.0]}


def test_a_bound_keeps_the_search_where_trials_are_feasible(tmp_path: Path) -> None:
    bounds = ["size_bytes <= 200000"]
    changes = {"space": WIDE, "sampler": EHVI, "budget": {"trials": 16}, "base": make_laddered(tmp_path).base}
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
    changes = {"space": WIDE, "sampler": EHVI, "budget": {"trials": 8}, "base": make_laddered(tmp_path).base}
    done = drive(open_proposer(make_spec(tmp_path, objectives=objectives, **changes)))
    assert len(done) == 8


def test_failed_points_are_not_tried_again_and_teach_nothing(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler=EHVI)
    points = list(spec.space.grid())
    records = [make_record(i, p, state="invalid", rung="ptq") for i, p in enumerate(points[:-1])]
    choice = open_ehvi(spec, records).suggest(())
    assert choice is not None
    assert (choice.params, choice.rung) == (points[-1], "ptq")


def test_a_large_space_is_sampled_and_its_best_have_neighbors_among_the_candidates(tmp_path: Path) -> None:
    fine = {"low": 0.0, "high": 0.999, "step": 0.001}
    space = {"prune_frac": fine, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}
    spec = make_spec(tmp_path, space=space, sampler=EHVI, base=make_laddered(tmp_path).base)
    best = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}
    strategy = open_ehvi(spec, [make_record(0, best)])
    candidates = strategy._candidates()
    assert len(candidates) < spec.space.size
    for near in ({"prune_frac": 0.501}, {"prune_frac": 0.499}, {"w_bits": 3}, {"w_bits": 6}, {"a_bits": 4}):
        assert {**best, **near} in candidates


def test_the_same_records_and_seed_give_the_same_choice(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=make_laddered(tmp_path).base, budget={"trials": 9})
    done = drive(open_proposer(spec), parallel=1)
    assert [r.assignment for r in drive(open_proposer(spec), parallel=1)] == [r.assignment for r in done]


def test_running_points_are_not_proposed_again(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, space=WIDE, sampler=EHVI, base=make_laddered(tmp_path).base, budget={"trials": 30})
    done = drive(open_proposer(spec), parallel=8)
    assert len({r.assignment.config_key for r in done}) == 30
