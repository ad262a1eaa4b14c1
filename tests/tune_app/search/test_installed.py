"""Samplers that a package brings: one that returns an Optuna sampler, and one that is a strategy of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.rungs import FULL
from search_spaces.samplers import SAMPLERS
from tests.tune_app.factories import make_record
from tests.tune_app.search.test_ladder import count, drive, make_laddered, open_proposer
from tune_app.ledger.ledger import TrialRecord

PLUG_IN = """
from optuna.samplers import RandomSampler

from search_spaces.samplers import Sampler
from tune_app.search.strategy import Choice, Strategy


def uniform(space, seed):
    return RandomSampler(seed=seed)


def backward(space, seed):
    return reversed(list(space.grid()))


walk = Sampler(backward, walks=True)


class Widest(Strategy):
    '''The widest weights first, each at the cheapest rung and then in full.'''

    def __init__(self, setting):
        self.known, self.setting = set(), setting
        self.points = sorted(setting.spec.space.grid(), key=lambda point: -point["w_bits"])

    def suggest(self, pending):
        busy = self.known | {(work.config_key, work.rung) for work in pending}
        for point in self.points:
            for rung in (self.setting.ladder.entry, "full"):
                if not self.setting.bounds(point) and (self.setting.key_of(point), rung) not in busy:
                    return Choice(point, rung)
        return None

    def replay(self, record):
        self.known.add((record.assignment.config_key, record.assignment.rung))
"""


@pytest.fixture
def package(install: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "own_samplers.py").write_text(PLUG_IN)
    names = {"own_uniform": "uniform", "own_walk": "walk", "own_widest": "Widest"}
    install("own", SAMPLERS.group, **{name: f"own_samplers:{item}" for name, item in names.items()})


def searched(tmp_path: Path, name: str, trials: int = 6) -> list[TrialRecord]:
    return drive(open_proposer(make_laddered(tmp_path, sampler={"name": name}, budget={"trials": trials})))


@pytest.mark.usefixtures("package")
def test_a_function_that_returns_optunas_sampler_climbs_the_rungs(tmp_path: Path) -> None:
    counts = count(searched(tmp_path, "own_uniform"))
    assert counts["ptq"] > counts["short"] >= counts[FULL] == 6


@pytest.mark.usefixtures("package")
def test_a_walk_says_that_it_is_one(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler={"name": "own_walk"}, budget={"trials": 1000})
    tried = [record.assignment.params for record in drive(open_proposer(spec)) if record.assignment.rung == "ptq"]
    assert tried == list(spec.space.grid())[::-1]


@pytest.mark.usefixtures("package")
def test_a_strategy_chooses_points_and_rungs_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    done = searched(tmp_path, "own_widest", trials=1000)
    assert [record.assignment.params["w_bits"] for record in done] == [8] * 16 + [4] * 16 + [2] * 16
    assert [record.assignment.rung for record in done] == ["ptq", FULL] * 24
    spec = make_laddered(tmp_path, sampler={"name": "own_widest"}, budget={"trials": 1000})
    dying = open_proposer(spec, done[:4])
    lost, other = dying.next(), dying.next()
    assert [work and work.params for work in (lost, other)] == [done[4].assignment.params, done[5].assignment.params]
    assert lost is not None
    dying.requeue(lost)
    assert dying.next() == lost, "a lost worker's trial starts again, without a word of the strategy"
    advice = [make_record(0, done[0].assignment.params, rung="ptq")]
    rest = drive(open_proposer(spec, done[:4], in_flight=dying.pending, advice=advice))
    assert sorted(r.assignment.trial_id for r in [*done[:4], *rest]) == sorted(r.assignment.trial_id for r in done)
