"""What the driver does between two steps of Tune's loop, with a loop of our own in the place of Tune's."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

import tune_app.on_ray.driver
from tests.tune_app.engine.ready import make_ready
from tests.tune_app.factories import Clock, make_experiment, make_record, make_spec
from tests.tune_app.search.test_ladder import closed_form
from trainables.errors import StorageUnavailable
from trainables.storage import create_once, exists
from tune_app.engine.stop_signal import StopSignal
from tune_app.engine.trial import assignments
from tune_app.errors import Interrupted, LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger
from tune_app.on_ray.driver import LOOK_EVERY_S, SAVE_EVERY_S, SAVE_MOST_S, Driver
from tune_app.on_ray.heartbeat import own_heartbeat, write_heartbeat
from tune_app.on_ray.worker import TrialWorker


class Loop:
    """Tune's loop as a test plays it: trials start, steps pass on a clock, trials end."""

    def __init__(self, folder: ExperimentFolder, clock: Clock, search: Any, step: Any) -> None:
        self.folder, self.clock, self.search, self._step = folder, clock, search, step

    def start(self, trial_id: str) -> Assignment:
        config = self.search.suggest(trial_id)
        assert isinstance(config, dict), config
        return assignments(config)[0]

    def step(self, after_s: float = SAVE_EVERY_S) -> list[Assignment]:
        """What is remembered as running after one more step."""
        self.clock.now += after_s
        self._step.on_step_begin(0, [])
        return Lease(self.folder).in_flight()

    def finish(self, trial_id: str, work: Assignment) -> None:
        Ledger(self.folder.trials).add(closed_form(work))
        self.search.on_trial_complete(trial_id)


class Bench:
    """A driver that holds the lease of an experiment of two trials."""

    def __init__(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: Lease, *, at_once: int | None = 2
    ) -> None:
        self.folder, self.clock, self.stop = ExperimentFolder(tmp_path / "toy"), Clock(), StopSignal()
        self.lease = lease
        self._patch = monkeypatch
        spec = make_spec(tmp_path, budget={"trials": 2}, max_concurrent_trials=at_once)
        nothing = SimpleNamespace(show=lambda: None)
        for name, stand_in in (("Gauges", lambda _: nothing), ("ray", SimpleNamespace(wait=lambda *_, **__: None))):
            monkeypatch.setattr(tune_app.on_ray.driver, name, stand_in)
        monkeypatch.setattr(tune_app.on_ray.driver.tune, "with_parameters", lambda *_, **__: None)
        monkeypatch.setattr(tune_app.on_ray.driver.gc, "freeze", lambda: None)
        monkeypatch.setattr("tune_app.engine.throttle.time", SimpleNamespace(monotonic=self.clock))
        search = make_ready(spec, lease)
        self.proposer = search.proposer
        self.driver = Driver(search, self.stop, TrialWorker)

    def fit(self, play: Callable[[Loop], None]) -> None:
        def tuner(_spec: Any, _trial: Any, search: Any, step: Any, **_: Any) -> Any:
            return SimpleNamespace(fit=lambda: play(Loop(self.folder, self.clock, search, step)))

        self._patch.setattr(tune_app.on_ray.driver, "_tuner", tuner)
        self.driver.fit(None)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with Lease(make_experiment(tmp_path, [], tables=False)) as lease:
        yield Bench(tmp_path, monkeypatch, lease)


def test_what_runs_is_remembered_soon_and_forgotten_at_the_end(bench: Bench) -> None:
    def play(loop: Loop) -> None:
        assert loop.step() == []
        first = loop.start("a")
        assert loop.step(SAVE_EVERY_S / 2) == []
        assert loop.step(SAVE_EVERY_S / 2) == [first]
        second = loop.start("b")
        assert loop.step() == [first, second]
        loop.finish("a", first)
        assert loop.step() == [second]
        loop.finish("b", second)
        assert loop.search.suggest("c") == Searcher.FINISHED

    bench.fit(play)
    assert bench.lease.in_flight() == []


@pytest.mark.parametrize(
    ("at_once", "answers", "seen"), [(None, True, 3), (None, False, math.inf), (2, True, math.inf)]
)
def test_the_room_on_the_nodes_is_counted_again_while_the_search_runs(
    at_once: int | None, answers: bool, seen: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that joins gets work; a head that does not answer would hold up the loop."""
    with Lease(make_experiment(tmp_path, [], tables=False)) as lease:
        bench = Bench(tmp_path, monkeypatch, lease, at_once=at_once)
        monkeypatch.setattr(tune_app.on_ray.driver, "fits_in_cluster", lambda spec: 3)
        monkeypatch.setattr(tune_app.on_ray.driver, "head_answers", lambda: answers)

        def play(loop: Loop) -> None:
            loop.step()
            assert loop.search.at_once == math.inf  # as Tune will say
            loop.step(LOOK_EVERY_S)
            assert loop.search.at_once == seen

        bench.fit(play)


def test_what_an_earlier_driver_left_in_flight_is_not_kept_for_ever(bench: Bench) -> None:
    work = bench.proposer.next()
    assert work is not None
    bench.lease.save_in_flight([work])
    bench.proposer.tell(closed_form(work))
    bench.fit(lambda loop: None)
    assert bench.lease.in_flight() == []


def test_a_search_that_collapses_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tune_app.findings.at_chance.ENOUGH", 1)

    def play(loop: Loop) -> None:
        for name in ("a", "b"):
            work = loop.start(name)
            refused = make_record(work.number, work.params, 0.1, state="invalid", kind="Collapsed", measured=True)
            Ledger(loop.folder.trials).add(refused.model_copy(update={"assignment": work}))
            loop.search.on_trial_complete(name)

    bench.fit(play)
    assert capsys.readouterr().err.count("trials that were measured are all at chance") == 1


def test_a_stop_signal_forgets_nothing_that_has_just_started(bench: Bench) -> None:
    started = []

    def play(loop: Loop) -> None:
        loop.step()
        started.append(loop.start("a"))
        bench.stop.number = 2
        loop.step(0.01)

    with pytest.raises(Interrupted):
        bench.fit(play)
    assert bench.lease.in_flight() == started


def test_after_a_save_that_took_long_the_next_one_comes_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Lease.save_in_flight

    def slow(lease: Lease, work: Any) -> None:
        bench.clock.now += 30
        save(lease, work)

    def play(loop: Loop) -> None:
        loop.step()
        started = loop.start("a")
        assert loop.step(SAVE_MOST_S) == [started]

    monkeypatch.setattr(Lease, "save_in_flight", slow)
    bench.fit(play)


def test_a_storage_that_went_away_starts_nothing_new_and_lets_finish_what_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageUnavailable("no space left")

    def play(loop: Loop) -> None:
        work = loop.start("a")
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "save_in_flight", full)
            loop.step()
        assert loop.search.suggest("b") == Searcher.FINISHED
        loop.finish("a", work)

    with pytest.raises(StorageUnavailable, match="no space left"):
        bench.fit(play)
    assert [r.state for r in bench.proposer.records] == ["complete"]


def test_a_driver_that_was_taken_over_ends_and_leaves_the_others_files_alone(bench: Bench) -> None:
    def play(loop: Loop) -> None:
        loop.step()
        loop.start("a")
        assert create_once(loop.folder.lease / "00000099.json", b"{}")
        loop.step()

    with pytest.raises(LeaseHeld, match="took over"):
        bench.fit(play)
    assert bench.lease.in_flight() == []


def test_what_trials_of_an_earlier_driver_said_is_not_believed(bench: Bench) -> None:
    def play(loop: Loop) -> None:
        assert not exists(loop.folder.heartbeats)

    write_heartbeat(bench.folder, "a", own_heartbeat("node", out_of_memory=True))
    bench.fit(play)
