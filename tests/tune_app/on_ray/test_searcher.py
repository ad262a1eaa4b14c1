"""What Ray sees of the search, without Ray: its contract for a Searcher, batches, lost workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import ConcurrencyLimiter, Searcher

from search_spaces.rungs import FULL
from tests.tune_app.engine.ready import make_ready
from tests.tune_app.search.test_ladder import closed_form, make_laddered
from trainables.errors import StorageUnavailable
from trainables.storage import create_once
from tune_app.engine.trial import assignments
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, TrialRecord
from tune_app.on_ray.gpu_shares import Shares
from tune_app.on_ray.heartbeat import Heartbeat, write_heartbeat
from tune_app.on_ray.searcher import LedgerSearch
from tune_app.spec.experiment import ExperimentSpec, Resources


class Bench:
    """A searcher, and what a cluster would do with its suggestions."""

    def __init__(self, spec: ExperimentSpec, lease: Lease) -> None:
        self.ready = make_ready(spec, lease)
        self.search, self.proposer = LedgerSearch(self.ready), self.ready.proposer
        self.ledger = self.search.ledger
        self.running: dict[str, list[Assignment]] = {}

    def suggest(self, trial_id: str) -> list[Assignment]:
        config = self.search.suggest(trial_id)
        assert isinstance(config, dict)
        self.running[trial_id] = assignments(config)
        return self.running[trial_id]

    def finish(self, trial_id: str, *, first: int = 1_000) -> None:
        """The worker writes the records of the first so many assignments, and is gone."""
        for work in self.running.pop(trial_id)[:first]:
            self.ledger.add(closed_form(work))
        self.search.on_trial_complete(trial_id)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    opened = []

    def make(batch: int = 4, **changes: Any) -> Bench:
        fields = {"sampler": {"name": "grid"}, "budget": {"trials": 2}, "worker_retries": 1, **changes}
        spec = make_laddered(tmp_path, fidelity={"batch": batch}, **fields)
        lease = Lease(ExperimentFolder(spec.folder))
        lease.__enter__()
        opened.append(lease)
        return Bench(spec, lease)

    yield make
    for lease in opened:
        lease.__exit__(None, None, None)


Make = Callable[..., Bench]


def test_points_without_training_go_together_when_they_share_a_parent(bench: Make) -> None:
    b = bench()
    config = b.search.suggest("t0")
    assert isinstance(config, dict)
    work = b.running["t0"] = assignments(config)
    assert [w.params["prune_frac"] for w in work] == [0.0] * 4
    assert (config["name"], config["folder"]) == ("p0_w2_a4@ptq+3", work[0].trial_id)
    # The grid's next four: two of the same parent, two of another; the larger batch goes first, nothing is lost.
    later = [*b.suggest("t1"), *b.suggest("t2")]
    assert [w.params["prune_frac"] for w in later[:2]] == [0.0, 0.0]
    assert len({w.trial_id for w in [*work, *later]}) == len(work) + len(later)


def test_points_that_train_go_alone(bench: Make) -> None:
    b = bench()
    b.suggest("t0")
    b.finish("t0")
    [climbing] = b.suggest("t1")
    assert climbing.rung == "short"


def test_every_assignment_of_a_batch_is_told_and_shown(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    b, seen = bench(), list[TrialRecord]()
    monkeypatch.setattr(b.ready.view, "finished", seen.append)
    work = b.suggest("t0")
    b.finish("t0")
    assert [r.assignment for r in b.proposer.records] == work
    assert seen == b.proposer.records == b.ready.view.status.records


def test_of_a_lost_batch_only_what_has_no_record_runs_again_and_what_was_at_work_alone(bench: Make) -> None:
    b = bench()
    first = b.suggest("t0")
    b.finish("t0", first=2)
    assert len(b.proposer.records) == 2
    assert b.suggest("t1") == [first[2]]
    together = b.suggest("t2")
    assert together[0] == first[3]
    assert len(together) > 1
    b.finish("t1", first=0)  # lost for the second time
    last = b.ledger.find(first[2].trial_id)
    assert last is not None
    assert last.reason.startswith("WorkerLost")
    b.finish("t2", first=0)  # for the first time: before, it had not begun
    assert b.suggest("t3") == [first[3]]


def test_what_had_not_begun_when_memory_ran_out_spends_no_retries(bench: Make) -> None:
    b = bench(resources={"cpu": 1, "gpu": 0.25})
    work = b.suggest("t0")
    out_of_memory(b, "t0", work[0])
    assert b.suggest("t1") == [work[0]]
    assert b.suggest("t2")[:3] == work[1:]


def test_none_while_results_must_come_first_and_finished_at_the_end(bench: Make) -> None:
    b = bench(budget={"trials": 1}, space={"prune_frac": [0.0], "w_bits": [4], "a_bits": [8]})
    assert [w.rung for w in b.suggest("t0")] == ["ptq"]
    assert b.search.suggest("t1") is None
    b.finish("t0")
    assert [w.rung for w in b.suggest("t1")] == ["short"]
    b.finish("t1")
    assert [w.rung for w in b.suggest("t2")] == [FULL]
    assert b.search.suggest("t3") is None
    b.finish("t2")
    assert b.search.suggest("t3") == Searcher.FINISHED
    assert b.search.error is None


def test_who_has_nothing_to_start_does_not_look_at_the_lease(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench(budget={"trials": 1}, space={"prune_frac": [0.0], "w_bits": [4], "a_bits": [8]})
    looks: list[Lease] = []
    monkeypatch.setattr(Lease, "check", lambda lease: looks.append(lease))
    b.suggest("t0")
    for i in range(10):
        assert b.search.suggest(f"none{i}") is None
    assert len(looks) == 1


def test_a_driver_that_was_taken_over_starts_nothing(bench: Make, tmp_path: Path) -> None:
    b = bench()
    create_once(ExperimentFolder(tmp_path / "toy").lease / "00000099.json", b"{}")
    assert b.search.suggest("t0") == Searcher.FINISHED
    assert isinstance(b.search.error, LeaseHeld)


def test_a_whole_search_runs_every_place_once(bench: Make) -> None:
    b = bench(budget={"trials": 5}, sampler={"name": "tpe"})
    running: list[str] = []
    for i in range(1_000):
        if len(running) < 3:
            config = b.search.suggest(f"t{i}")
            if config == Searcher.FINISHED and not running:
                break
            if isinstance(config, dict):
                b.running[f"t{i}"] = assignments(config)
                running.append(f"t{i}")
                continue
        b.finish(running.pop(0))
    places = [(r.assignment.config_key, r.assignment.rung) for r in b.ledger.read()[0]]
    assert len(set(places)) == len(places)
    assert sum(rung == FULL for _, rung in places) == 5


def test_a_completion_that_nobody_waits_for_changes_nothing(bench: Make) -> None:
    b = bench()
    b.search.on_trial_complete("unknown")
    b.suggest("t0")
    b.finish("t0")
    b.search.on_trial_complete("t0")
    assert len(b.proposer.records) == 4
    assert b.search.error is None


def test_a_storage_that_went_away_ends_the_search(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench()
    b.suggest("t0")

    def broken(trial_id: str) -> None:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(b.ledger, "find", broken)
    b.search.on_trial_complete("t0")
    assert isinstance(b.search.error, StorageUnavailable)
    assert b.search.suggest("t1") == Searcher.FINISHED


def lose(b: Bench) -> Assignment:
    """A trial that is lost for the last time when its worker is."""
    [work] = b.suggest("t0")
    b.finish("t0", first=0)
    assert b.suggest("t1") == [work]
    return work


def test_a_driver_that_was_taken_over_gives_up_no_trial(bench: Make, tmp_path: Path) -> None:
    b = bench(batch=1)
    lose(b)
    create_once(ExperimentFolder(tmp_path / "toy").lease / "00000099.json", b"{}")
    b.finish("t1", first=0)
    assert isinstance(b.search.error, LeaseHeld)
    assert b.ledger.read() == ([], [])


def test_a_record_that_a_worker_wrote_in_the_last_moment_is_the_truth(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(batch=1)
    work, find, asked = lose(b), b.ledger.find, list[str]()

    def too_early(trial_id: str) -> TrialRecord | None:
        asked.append(trial_id)
        return find(trial_id) if len(asked) > 1 else None

    monkeypatch.setattr(b.ledger, "find", too_early)
    b.finish("t1")
    assert b.proposer.records == [closed_form(work)]


def out_of_memory(b: Bench, trial_id: str, work: Assignment) -> None:
    """The worker says so and ends."""
    beat = Heartbeat(node_id="n", pid=1, started=0.0, out_of_memory=True)
    write_heartbeat(b.ready.folder, work.trial_id, beat)
    b.finish(trial_id, first=0)


def config_of(b: Bench, trial_id: str) -> dict[str, Any]:
    config = b.search.suggest(trial_id)
    assert isinstance(config, dict)
    b.running[trial_id] = assignments(config)
    return config


def test_a_trial_that_ran_out_of_memory_gets_a_larger_share_and_so_do_the_next_ones(bench: Make) -> None:
    b = bench(batch=1, resources={"cpu": 1, "gpu": 0.25})
    shares = []
    for i in range(3):
        config = config_of(b, f"t{i}")
        shares.append((config["gpu_share"], config["out_of_memory"]))
        [work] = assignments(config)
        if i < 2:
            out_of_memory(b, f"t{i}", work)
    assert shares == [(0.25, 0), (0.5, 1), (1.0, 2)]
    b.finish("t2")
    assert b.proposer.records[0].state == "complete"
    assert config_of(b, "t3")["gpu_share"] == 1.0


def test_a_whole_gpu_that_is_too_small_ends_the_trial_and_not_the_search(bench: Make) -> None:
    b = bench(batch=1, resources={"cpu": 1, "gpu": 1})
    [work] = assignments(config_of(b, "t0"))
    out_of_memory(b, "t0", work)
    [record] = b.proposer.records
    assert record.reason.startswith("OutOfMemory")
    assert record.state == "failed"
    assert (record.gpu_share, record.out_of_memory) == (1.0, 1)
    assert isinstance(b.search.suggest("t1"), dict)


def test_what_a_trial_learned_that_no_gpu_could_hold_survives_a_resume(bench: Make) -> None:
    b = bench(batch=1, resources={"cpu": 1, "gpu": 0.5})
    for i in range(2):
        [work] = assignments(config_of(b, f"t{i}"))
        out_of_memory(b, f"t{i}", work)
    [record] = b.ledger.read()[0]
    assert record.reason.startswith("OutOfMemory")
    assert Shares(Resources(gpu=0.5), [record]).of(work.rung) == 1.0


def test_running_out_of_memory_spends_no_retries(bench: Make) -> None:
    b = bench(batch=1, resources={"cpu": 1, "gpu": 0.125})
    for i in range(3):  # more often than worker_retries
        [work] = assignments(config_of(b, f"t{i}"))
        out_of_memory(b, f"t{i}", work)
    config_of(b, "t3")
    b.finish("t3", first=0)  # lost once: one retry is there
    assert [w.trial_id for w in assignments(config_of(b, "t4"))] == [work.trial_id]


def test_as_many_trials_run_as_there_is_room_for_now(bench: Make) -> None:
    """Tune would keep the room that there was when the search began."""
    b = bench(batch=1, budget={"trials": 3})
    limited = ConcurrencyLimiter(b.search, max_concurrent=1)
    assert isinstance(limited.suggest("a"), dict)
    assert limited.suggest("b") is None
    b.search.at_once = 3  # nodes have joined
    assert isinstance(limited.suggest("b"), dict)
    assert isinstance(limited.suggest("c"), dict)
    b.search.at_once = 1  # and left
    assert limited.suggest("d") is None
