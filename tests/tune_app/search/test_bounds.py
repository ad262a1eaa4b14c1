"""Points that break a bound by their configuration alone never become trials."""

from pathlib import Path

import pytest

from search_spaces.samplers import MAX_ASKS, SAMPLERS
from tests.tune_app.search.test_ladder import count, drive, make_laddered, open_proposer
from trainables.config import Architecture, ModelConfig
from trainables.costs.planned import planned_metrics
from trainables.results import COUNTED, METRICS
from tune_app.ledger.ledger import Params
from tune_app.search.bounds import open_bounds
from tune_app.spec.experiment import ExperimentSpec

ARCHITECTURE = Architecture(model=ModelConfig(), classes=10, channels=3, image_size=32)


def bounded(tmp_path: Path, *constraints: str) -> ExperimentSpec:
    return make_laddered(tmp_path, constraints=list(constraints))


def test_the_counted_metrics_are_those_of_the_analysis(tmp_path: Path) -> None:
    config = bounded(tmp_path).trial({"prune_frac": 0.6, "w_bits": 4, "a_bits": 8})
    assert tuple(planned_metrics(config, ARCHITECTURE)) == COUNTED
    assert set(COUNTED) < set(METRICS)


def test_a_point_over_a_bound_is_refused_with_its_figure(tmp_path: Path) -> None:
    plain = bounded(tmp_path)
    narrow: Params = {"prune_frac": 0.6, "w_bits": 4, "a_bits": 8}
    wide: Params = {**narrow, "prune_frac": 0.0}
    limit = planned_metrics(plain.trial(narrow), ARCHITECTURE)["macs"]
    bounds = open_bounds(bounded(tmp_path, f"macs <= {limit}", "accuracy >= 0.99"), ARCHITECTURE)
    assert bounds(narrow) == ""
    macs = planned_metrics(plain.trial(wide), ARCHITECTURE)["macs"]
    assert bounds(wide) == f"macs is {macs:,}, the bound macs <= {limit:.1f}"


@pytest.mark.parametrize("bound", ["accuracy >= 0.9", "size_bytes <= 10"])
def test_what_must_be_measured_refuses_nothing(bound: str, tmp_path: Path) -> None:
    bounds = open_bounds(bounded(tmp_path, bound), ARCHITECTURE)
    assert bounds({"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}) == ""


def test_without_a_known_architecture_everything_passes(tmp_path: Path) -> None:
    assert open_bounds(bounded(tmp_path, "macs <= 1"), None)({"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}) == ""


@pytest.mark.parametrize("sampler", [n for n in SAMPLERS.names() if SAMPLERS[n].asks == MAX_ASKS])
def test_no_sampler_proposes_what_is_refused_and_all_else_runs(sampler: str, tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler={"name": sampler}, budget={"trials": 1000})
    proposer = open_proposer(spec, bounds=lambda p: "too wide" if float(p["prune_frac"]) < 0.4 else "")
    done = drive(proposer)
    assert {r.assignment.params["prune_frac"] for r in done} == {0.4, 0.6}
    counts = count(done)
    assert counts["full"] == 12
    if sampler != "ehvi":  # which tries a point at a lower rung only where that may spare the full trial
        assert counts == dict.fromkeys(("ptq", "short", "full"), 12)


def test_a_space_that_is_refused_as_a_whole_ends_the_search(tmp_path: Path) -> None:
    for sampler in ("tpe", "ehvi", "grid"):
        proposer = open_proposer(make_laddered(tmp_path, sampler={"name": sampler}), bounds=lambda p: "no")
        assert proposer.next() is None
