"""The replay of searches on a table: what the simulated clock counts, and what every policy does."""

import json
import math
import random
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest

from benchmarks.search import policies, replay, settings
from benchmarks.search.fitted import errors, whole_space
from benchmarks.search.runs import read_runs, write_runs
from benchmarks.search.simulator import Job, simulate
from benchmarks.search.table import Cell, Table, continued, load_table, shortened
from benchmarks.search.tables import OBJECTIVES, TABLES, open_table, read_table
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec

SPEC = Path(__file__).parent.parent / "benchmarks" / "search" / "table.yaml"
REFERENCE = {"accuracy": 0.5, "size_bytes": 300_000.0}
SECONDS = {"ptq": 1.0, "short": 4.0, "full": 16.0}


def row(params: dict[str, Any], rung: str) -> dict[str, Any]:
    """Closed form: few bits lose much without training."""
    p, s, w, a = (float(params[n]) for n in ("prune_frac", "sparsity", "w_bits", "a_bits"))
    loss = {"ptq": 3.0, "short": 1.5, "full": 1.0}[rung] * (0.4 / 2**w + 0.2 / 2**a)
    accuracy = 0.99 - 0.15 * p**2 - 0.1 * s**3 - loss
    size = 10_000 + 230_000 * (1 - p) * (1 - 0.8 * s) * w / 8
    return {
        **params,
        "rung": rung,
        "state": "complete",
        "reason": "",
        "accuracy": max(0.1, accuracy),
        "accuracy_trained": max(0.1, accuracy),
        "n": 400,
        "size_bytes": round(size),
        "compression_ratio": 950_000 / size,
        "parameters": 1,
        "prune_frac_achieved": p,
        "sparsity_achieved": s,
        "macs": 1,
        "bops": 1,
        "activation_bytes": 1,
        "peak_activation_bytes": 1,
        "seconds_channel_prune": 10.0 if p > 0 else math.nan,
        "seconds_sparsify": 8.0 if s > 0 else math.nan,
        "seconds_ptq": 1.0 if rung == "ptq" else math.nan,
        "seconds_qat": math.nan if rung == "ptq" else SECONDS[rung],
    }


@pytest.fixture(scope="session")
def spec() -> ExperimentSpec:
    return load_spec(SPEC)


@pytest.fixture(scope="session")
def table_file(spec: ExperimentSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every point at every rung; of a shared stage one trial paid, the others read."""
    rows = [row(params, rung) for rung in SECONDS for params in spec.space.grid()]
    seen = set()
    for found in rows:
        for kind, key in (
            ("channel_prune", (found["prune_frac"],)),
            ("sparsify", (found["prune_frac"], found["sparsity"])),
        ):
            if (kind, key) in seen and found[f"seconds_{kind}"] > 0:
                found[f"seconds_{kind}"] = 0.01
            seen.add((kind, key))
    path = tmp_path_factory.mktemp("table") / "trials.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.fixture(scope="session")
def table(spec: ExperimentSpec, table_file: Path) -> Table:
    """The same, read."""
    return load_table(table_file, spec.model_copy(update={"reference": REFERENCE}))


class Fixed:
    """Runs these jobs."""

    def __init__(self, *jobs: Job) -> None:
        self._jobs = iter(jobs)
        self.told: list[Job] = []

    def ask(self) -> Job | None:
        return next(self._jobs, None)

    def tell(self, job: Job, cell: Cell) -> None:
        self.told.append(job)


def job(rung: str = "full", **params: Any) -> Job:
    return Job({"prune_frac": 0.4, "sparsity": 0.5, "w_bits": 4, "a_bits": 8, **params}, rung)


def test_a_shared_stage_costs_what_it_cost_its_maker(table: Table) -> None:
    stages = table.cell(job().params, "full").stages
    assert [(s.key[0], s.seconds) for s in stages] == [("channel_prune", 10.0), ("sparsify", 8.0), ("own", 16.0)]
    assert [s.key[0] for s in table.cell(job(prune_frac=0.0, sparsity=0.0).params, "ptq").stages] == ["own"]


def test_without_a_cache_everything_is_computed_again(table: Table) -> None:
    trace = simulate(Fixed(job(w_bits=4), job(w_bits=8)), table, workers=1, cache=False, target=math.inf)
    assert trace.training_s.tolist() == [34.0, 68.0]
    assert trace.wall_s.tolist() == [34.0, 68.0]


def test_with_a_cache_a_shared_stage_is_computed_once(table: Table) -> None:
    trace = simulate(Fixed(job(w_bits=4), job(w_bits=8), job(w_bits=8)), table, workers=1, cache=True, target=math.inf)
    assert trace.training_s.tolist() == [34.0, 50.0, 50.0]


def test_a_second_worker_waits_for_the_stage_and_waiting_is_no_training(table: Table) -> None:
    trace = simulate(Fixed(job(w_bits=4), job(w_bits=8)), table, workers=2, cache=True, target=math.inf)
    assert trace.wall_s.tolist() == [34.0, 34.0]
    assert trace.training_s.tolist() == [50.0, 50.0]


def test_only_the_full_schedule_finds_anything(table: Table) -> None:
    trace = simulate(Fixed(job("ptq"), job("short"), job()), table, workers=1, cache=True, target=math.inf)
    assert len(trace.volume) == 1
    assert trace.training_s.tolist() == [18.0 + 1 + 4 + 16]
    assert trace.seconds_to(trace.volume[0]) == trace.training_s[0]
    assert trace.seconds_to(2 * trace.volume[0]) == math.inf


def test_a_search_ends_at_its_target(table: Table) -> None:
    policy = Fixed(*(job(w_bits=w) for w in (8, 6, 4, 3)))
    trace = simulate(policy, table, workers=1, cache=True, target=1e-9)
    assert len(policy.told) == len(trace.volume) == 1


def test_the_whole_grid_finds_the_whole_volume(table: Table) -> None:
    trace = simulate(policies.ordered(table, 0), table, workers=4, cache=True, target=math.inf)
    assert len(trace.volume) == 400
    assert trace.volume[-1] == pytest.approx(table.volume)


@pytest.mark.parametrize("name", ["ordered", "shuffled", "uniform", "ray_tpe", "ray_nsga2", "ours"])
def test_every_policy_reaches_most_of_the_volume(name: str, table: Table) -> None:
    make = getattr(policies, name)
    trace = simulate(make(table, 1), table, workers=4, cache=True, target=0.9 * table.volume, max_jobs=2_000)
    assert trace.volume[-1] >= 0.9 * table.volume
    assert (pd.Series(trace.volume).diff().dropna() >= 0).all()
    assert (pd.Series(trace.training_s).diff().dropna() >= 0).all()


def test_training_that_goes_on_pays_what_is_left(table: Table) -> None:
    first, on = job("short"), job()
    trace = simulate(Fixed(first, on), continued(table), workers=1, cache=True, target=math.inf)
    assert trace.training_s.tolist() == [18.0 + SECONDS["full"]]
    alone = simulate(Fixed(on), continued(table), workers=1, cache=True, target=math.inf)
    assert alone.training_s.tolist() == trace.training_s.tolist()


def test_models_of_a_sample_foretell_the_whole_space(table: Table) -> None:
    evaluated = random.Random(0).sample(table.points, 200)
    seen, in_full = {table.key(point) for point in evaluated}, table.spec.model_copy(update={"fidelity": None})
    cells = {place: cell for place, cell in table.cells.items() if place[1] == "full"}
    sample = Table(in_full, {place: cell for place, cell in cells.items() if place[0] in seen}, table.reference)
    whole, off = whole_space(sample, ["accuracy", "size_bytes"]), errors(sample, ["accuracy", "size_bytes"])
    assert set(whole.cells) == set(cells)
    others = [(place, cell) for place, cell in cells.items() if place not in sample.cells]
    for metric, most in (("accuracy", 0.01), ("size_bytes", 0.01)):
        wrong = [
            abs(whole.cells[place].row[metric] - cell.row[metric]) / (1 if metric == "accuracy" else cell.row[metric])
            for place, cell in others
        ]
        assert median(wrong) < most
        assert off["full"][metric].median == pytest.approx(median(wrong), abs=most)
        assert off["full"][metric].rank_correlation > 0.95
    for place, cell in others[:20]:
        assert [s.key for s in whole.cells[place].stages] == [s.key for s in cell.stages]
        assert [s.seconds for s in whole.cells[place].stages] == pytest.approx(
            [s.seconds for s in cell.stages], rel=0.1
        )


def test_mo_asha_promotes_a_quarter_and_finishes_it(table: Table) -> None:
    """Two epochs of eight: one trial in four goes on."""
    pytest.importorskip("syne_tune", reason="syne_tune is not installed: it is in the dependency group bench")
    goes_on = continued(table)
    trace = simulate(policies.MoAsha(goes_on, 1), goes_on, workers=4, cache=True, target=math.inf, max_jobs=200)
    assert 25 < len(trace.volume) < 75


def test_mo_asha_promotes_the_best(table: Table) -> None:
    """A trial that many others dominate stops, whatever its place among those that were reported."""
    pytest.importorskip("syne_tune", reason="syne_tune is not installed: it is in the dependency group bench")
    policy = policies.MoAsha(table, 1)
    rows = [{"state": "complete", "accuracy": a, "size_bytes": s} for a, s in ((0.9, 9e4), (0.8, 8e4), (0.7, 7e4))]
    worst, best = [{"state": "complete", "accuracy": a, "size_bytes": s} for a, s in ((0.5, 2e5), (0.95, 1e4))]
    for found in [*rows, *[worst] * 6, best]:
        asked = policy.ask()
        assert asked is not None
        went_on = len(policy._going_on)
        policy.tell(asked, Cell(found, ()))
        if found in (worst, best):
            assert (len(policy._going_on) > went_on) == (found is best)


def test_qlognehvi_reaches_most_of_the_volume_and_repeats_nothing(table: Table) -> None:
    pytest.importorskip("botorch", reason="botorch is not installed: it is in the dependency group bench")
    policy = policies.BoTorch(table, 1)
    trace = simulate(policy, table, workers=4, cache=True, target=0.9 * table.volume, max_jobs=60)
    assert trace.volume[-1] >= 0.9 * table.volume
    assert len(policy._values) + len(policy._running) == trace.jobs


def test_qlognehvi_compares_some_points_of_a_large_space(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botorch", reason="botorch is not installed: it is in the dependency group bench")
    monkeypatch.setattr(policies, "MOST", 30)
    policy = policies.BoTorch(table, 1)
    good, bad = table.points.index(job().params), table.points.index(job(w_bits=2, a_bits=3).params)
    policy._values = {good: [0.9, -20_000.0], bad: [0.2, -30_000.0]}
    choices = policy._choices()
    near = [i for i, p in enumerate(table.points) if sum(p[n] != job().params[n] for n in p) == 1]
    assert set(near) < set(choices)
    assert {good, bad}.isdisjoint(choices)
    assert 30 < len(choices) == len(set(choices)) <= 30 + len(near)


def test_ours_follows_its_seed(table: Table) -> None:
    def run(seed: int) -> list[float]:
        policy = policies.ours(table, seed)
        return list(simulate(policy, table, workers=4, cache=True, target=math.inf, max_jobs=60).training_s)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_shorter_schedule_finds_what_the_rung_below_finds(table: Table) -> None:
    point = job().params
    short, found = table.cell(point, "short"), shortened(table).cell(point, "full")
    assert found.row == {**short.row, "rung": "full"}
    assert found.stages == short.stages
    assert shortened(table).cell(point, "ptq") == table.cell(point, "ptq")


def test_advice_from_an_equal_network_saves_training(table: Table) -> None:
    def needed(policy: policies.Ours) -> float:
        trace = simulate(policy, table, workers=4, cache=True, target=0.95 * table.volume)
        return trace.seconds_to(0.95 * table.volume)

    assert needed(policies.warm_started(table, 1, table)) < needed(policies.ours(table, 1))


def test_the_replay_writes_its_tables_its_figures_and_its_picture(tmp_path: Path) -> None:
    methods, out = ["grid in order, no cache", "random, our cache", "ours"], tmp_path / "search"
    cells = ["--tables", "digits", "--workers", "4", "1", "--objectives", "bytes"]
    command = ["--seeds", "2", "--max-jobs", "60", *cells, "--output", str(out), "--only", *methods]
    replay.main(command)
    page = out.with_suffix(".md").read_text()
    assert all(page.count(f"| {name} |") >= 2 for name in methods)
    assert "never" in page  # 60 jobs are too few for the grid
    assert "| digits: accuracy, size_bytes; 4 workers | 95 % |" in page
    figures = json.loads(out.with_suffix(".json").read_text())["figures"]
    found = figures["digits, bytes, 4"]
    assert list(found) == methods
    assert found["grid in order, no cache"] == {"0.95": None, "0.99": None}
    assert found["ours"]["0.95"] > 0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    file = tmp_path / "search_runs.parquet"
    runs = read_runs(file)
    assert Counter((run.setting.workers, run.method) for run in runs) == {
        (workers, name): count for workers in (4, 1) for name, count in zip(methods, (1, 2, 2), strict=True)
    }
    ours = [outcome.training_s[0] for run, outcome in runs.items() if run.setting.workers == 4 and run.method == "ours"]
    assert found["ours"]["0.95"] == pytest.approx(max(ours), abs=1e-3)  # of two seeds
    written = file.stat().st_mtime_ns
    replay.main(command)
    assert file.stat().st_mtime_ns == written
    assert json.loads(out.with_suffix(".json").read_text())["figures"] == figures

    lost = next(run for run in runs if run.setting.workers == 4 and run.method == "random, our cache")
    write_runs(file, {run: outcome for run, outcome in runs.items() if run != lost})
    replay.main([*command, "--kept"])
    assert out.with_suffix(".md").read_text().count("Not run: random, our cache") == 1
    left = json.loads(out.with_suffix(".json").read_text())["figures"]
    del figures["digits, bytes, 4"]["random, our cache"]
    assert left == figures
    replay.main([*command, "--kept", "--workers", "4", "16"])
    assert "digits: accuracy, size_bytes; 16 workers: no rival has run." in out.with_suffix(".md").read_text()
    assert list(json.loads(out.with_suffix(".json").read_text())["figures"]) == ["digits, bytes, 4"]
    replay.main([*command, "--again", "ours"])
    assert read_runs(file) == runs


@pytest.mark.parametrize("objectives", OBJECTIVES)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_may_be_judged_by_other_columns(name: str, objectives: str) -> None:
    judged = open_table(name, objectives)
    assert list(judged.reference) == list(judged.spec.objectives) == list(OBJECTIVES[objectives])
    assert judged.reference["accuracy"] == read_table(name).spec.reference["accuracy"]
    assert judged.volume > 0


@pytest.mark.parametrize(
    ("rival", "ratio", "behind"),
    [
        ([200.0, 220.0, 240.0], "0.50", "none"),
        ([50.0, 60.0, 70.0], "1.83", "rival"),
        ([80.0, 90.0, 115.0], "1.22", "none"),
    ],
)
def test_a_verdict_compares_medians_and_quartiles(rival: list[float], ratio: str, behind: str) -> None:
    seconds = {"ours": {0.95: [100.0, 110.0, 130.0]}, "ours, another": {0.95: [1.0] * 3}, "rival": {0.95: rival}}
    found = settings.verdict(seconds, settings.Setting("digits", "bytes", 4), 0.95, 22.0)
    assert found[4:6] == ["rival", ratio]
    assert found[6] == ("0.5 met" if ratio == "0.50" else "0.5 missed")
    assert found[8] == behind


def test_the_oracle_needs_no_more_than_any_search(table: Table) -> None:
    trace = simulate(policies.ours(table, 0), table, workers=1, cache=True, target=0.9 * table.volume)
    assert 0 < settings.oracle(table, 0.9) <= trace.seconds_to(0.9 * table.volume)


def test_a_search_that_never_arrives_counts_as_infinitely_long() -> None:
    assert settings._quartiles([1.0, 2.0, math.inf, math.inf]) == (2.0, math.inf, math.inf)
