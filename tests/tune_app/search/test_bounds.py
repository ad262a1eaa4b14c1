"""Points that break a bound by their configuration alone never become trials."""

from pathlib import Path

import pytest

from search_spaces.samplers import SAMPLERS, SLOW
from tests.tune_app.search.test_ladder import count, drive, make_laddered, open_proposer
from trainables.config import Architecture, ModelConfig
from trainables.costs.planned import planned_metrics
from tune_app.ledger.ledger import Params
from tune_app.search.bounds import open_screen
from tune_app.spec.experiment import ExperimentSpec

ARCHITECTURE = Architecture(model=ModelConfig(), classes=10, channels=3, image_size=32)


def bounded(tmp_path: Path, *constraints: str) -> ExperimentSpec:
    return make_laddered(tmp_path, constraints=list(constraints))


def test_a_point_over_a_bound_is_refused_with_its_figure(tmp_path: Path) -> None:
    plain = bounded(tmp_path)
    narrow: Params = {"prune_frac": 0.6, "w_bits": 4, "a_bits": 8}
    wide: Params = {**narrow, "prune_frac": 0.0}
    limit = planned_metrics(plain.trial(narrow), ARCHITECTURE)["macs"]
    screen = open_screen(bounded(tmp_path, f"macs <= {limit}", "accuracy >= 0.99"), ARCHITECTURE)
    assert screen(narrow) == ""
    macs = planned_metrics(plain.trial(wide), ARCHITECTURE)["macs"]
    assert screen(wide) == f"macs is {macs:,}, the bound macs <= {limit:.1f}"


@pytest.mark.parametrize("bound", ["accuracy >= 0.9", "size_bytes <= 10"])
def test_what_must_be_measured_refuses_nothing(bound: str, tmp_path: Path) -> None:
    screen = open_screen(bounded(tmp_path, bound), ARCHITECTURE)
    assert screen({"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}) == ""


def test_without_a_known_architecture_everything_passes(tmp_path: Path) -> None:
    assert open_screen(bounded(tmp_path, "macs <= 1"), None)({"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}) == ""


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS.names()) - SLOW))
def test_no_sampler_proposes_what_is_refused_and_all_else_runs(sampler: str, tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler={"name": sampler}, budget={"trials": 1000})
    proposer = open_proposer(spec, screen=lambda p: "too wide" if float(p["prune_frac"]) < 0.4 else "")
    done = drive(proposer)
    assert {r.assignment.params["prune_frac"] for r in done} == {0.4, 0.6}
    assert count(done) == dict.fromkeys(("ptq", "short", "full"), 12)


def test_a_space_that_is_refused_as_a_whole_ends_the_search(tmp_path: Path) -> None:
    for sampler in ("tpe", "ehvi", "grid"):
        proposer = open_proposer(make_laddered(tmp_path, sampler={"name": sampler}), screen=lambda p: "no")
        assert proposer.next() is None
