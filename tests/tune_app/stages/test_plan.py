"""What a search would run: counts against an enumeration, expectations against all ways to draw."""

import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from search_spaces.rungs import FULL
from search_spaces.samplers import shuffled_grid
from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tests.trainables.data.files import draw, write_folder
from tests.tune_app.factories import make_experiment, make_record, make_spec
from tests.tune_app.search.test_ladder import make_laddered
from trainables.config import BaselineTrain, DataConfig, Distillation, ModelConfig, Schedule, stage_keys, teacher_key
from trainables.data.data_sets import load_data
from trainables.data.needs import image_needs
from trainables.errors import ConfigError
from trainables.results import StageRun
from trainables.stages.files import StageEntry
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.keys import config_key
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.stages.plan import Plan, StagePlan, make_plan, read_plan

PRINT = "f" * 64
Point = dict[str, float | int | str]


def keys_of(spec: ExperimentSpec, point: Point, rung: str = FULL) -> list[str]:
    return stage_keys(spec.trial(point, rung), fingerprint=PRINT)


def entry(key: str, kind: str, *, seconds: float = 1.0, size_bytes: int = 100, failed: bool = False) -> StageEntry:
    return StageEntry(key, kind, 0.0 if failed else seconds, size_bytes, failed, modified=0.0)


def record(spec: ExperimentSpec, number: int, point: Point, rung: str = FULL) -> TrialRecord:
    """A finished trial of a point, with its real keys."""
    config = spec.trial(point, rung)
    stages = [
        StageRun(kind=stage.kind, key=key, seconds=1.0, cached=False)
        for stage, key in zip(config.stages(), keys_of(spec, point, rung), strict=True)
    ]
    made = make_record(number, point, rung=rung)
    work = made.assignment.model_copy(update={"config_key": config_key(spec, PRINT, point)})
    return made.model_copy(update={"assignment": work, "result": made.result.model_copy(update={"stages": stages})})


def cached(spec: ExperimentSpec, point: Point, rung: str = FULL, **about: Any) -> list[StageEntry]:
    """The cache's entries of a point."""
    kinds = [stage.kind for stage in spec.trial(point, rung).stages()]
    return [entry(key, kind, **about) for key, kind in zip(keys_of(spec, point, rung), kinds, strict=True)]


def plan_of(spec: ExperimentSpec, **state: Any) -> Plan:
    return make_plan(spec, fingerprint=PRINT, **state)


def stages(plan: Plan) -> dict[str, StagePlan]:
    return {stage.label: stage for stage in plan.stages}


def grid(spec: ExperimentSpec) -> list[Point]:
    return [dict(point) for point in spec.space.grid()]


def test_stages_are_those_of_an_enumeration(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path)
    expected: dict[str, set[str]] = defaultdict(set)
    for point, rung in itertools.product(grid(spec), spec.rungs):
        *parents, last = zip(spec.trial(point, rung).stages(), keys_of(spec, point, rung), strict=True)
        for stage, key in parents:
            expected[stage.kind].add(key)
        expected[f"{last[0].kind}@{rung}"].add(last[1])
    plan = plan_of(spec)
    assert {label: stage.distinct for label, stage in stages(plan).items()} == {n: len(k) for n, k in expected.items()}
    assert list(stages(plan)) == ["train", "channel_prune", "ptq@ptq", "qat@short", "qat@full"]
    assert (plan.points, plan.counted, plan.sampled) == (24, 24, False)


def test_a_ladder_asks_for_eta_times_the_trials_of_the_rung_above(tmp_path: Path) -> None:
    points = grid(make_laddered(tmp_path))
    spec = make_laddered(tmp_path, budget={"trials": 2})
    done = [record(spec, i, point, "ptq") for i, point in enumerate(points[:5])]
    plan = plan_of(spec, records=[*done, record(spec, 9, points[0])])
    assert [(r.name, r.epochs, r.trials, r.done) for r in plan.rungs] == [
        ("ptq", 0, 18, 5),
        ("short", 2, 6, 0),
        ("full", 9, 2, 1),
    ]
    assert (plan.trials, plan.done) == (2, 1)
    whole = plan_of(make_laddered(tmp_path, budget={"trials": 1000}))
    assert [r.trials for r in whole.rungs] == [24, 24, 24]


def test_the_epochs_of_a_rung_are_all_that_it_trains(tmp_path: Path) -> None:
    quantize = make_laddered(tmp_path).base.quantize.model_copy(
        update={"progressive_bits": (8, 5), "progressive_epochs": 3}
    )
    base = make_laddered(tmp_path).base.model_copy(update={"quantize": quantize})
    assert [r.epochs for r in plan_of(make_laddered(tmp_path, base=base)).rungs] == [0, 2, 9 + 2 * 3]


def test_configurations_that_are_the_same_count_once(tmp_path: Path) -> None:
    spec = make_spec(
        tmp_path,
        space={"prune_frac": [0.0, 0.5], "importance": ["l1", "l2"]},
        points=[{"prune_frac": 0.5, "importance": "l1"}, {"prune_frac": 0.25, "importance": "l1"}],
        budget={"trials": 100},
    )
    plan = plan_of(spec)
    assert (plan.points, plan.counted, plan.rungs[0].trials) == (4, 4, 4)  # two of the space are one; one is given
    assert {label: stage.distinct for label, stage in stages(plan).items()} == {
        "train": 1,
        "channel_prune": 3,
        "ptq@full": 4,
    }


def all_ways(spec: ExperimentSpec, done: Sequence[Point], known: set[str], draws: int) -> dict[str, float]:
    """The mean number of stages to make over every set of new points, by kind."""
    untried = [point for point in grid(spec) if point not in done]
    counts: dict[str, list[int]] = defaultdict(list)
    for drawn in itertools.combinations(untried, draws):
        needed: dict[str, set[str]] = {"train": set(), "channel_prune": set(), "ptq": set()}
        for point in drawn:
            for stage, key in zip(spec.trial(point).stages(), keys_of(spec, point), strict=True):
                needed[stage.kind] |= {key} - known
        for kind, keys in needed.items():
            counts[kind].append(len(keys))
    return {kind: statistics.mean(found) for kind, found in counts.items()}


@pytest.mark.parametrize(("tried", "trials"), [(0, 3), (2, 3), (2, 5), (3, 9), (0, 9)])
def test_what_the_budget_needs_is_the_mean_over_all_ways_to_draw(tried: int, trials: int, tmp_path: Path) -> None:
    space = {"prune_frac": [0.0, 0.3, 0.5], "w_bits": [2, 4, 8]}
    spec = make_spec(tmp_path, space=space, budget={"trials": trials})
    order = list(shuffled_grid.make(spec.space, 0))
    done = order[:tried]
    entries = {e.key: e for point in order[: tried + 1] for e in cached(spec, point)}  # one was cut off
    plan = plan_of(spec, records=[record(spec, i, p) for i, p in enumerate(done)], entries=list(entries.values()))
    expected = all_ways(spec, done, set(entries), trials - tried)
    found = {stage.kind: stage.to_make for stage in plan.stages}
    assert found == pytest.approx(expected)
    assert sum(stage.cached for stage in plan.stages) == len(entries)


def test_all_points_need_all_that_is_missing(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 24})
    point = grid(spec)[-1]
    plan = plan_of(spec, entries=cached(spec, point, "short"))
    assert {label: stage.to_make for label, stage in stages(plan).items()} == {
        "train": 0,
        "channel_prune": 2,
        "ptq@ptq": 24,
        "qat@short": 23,
        "qat@full": 24,
    }


def test_parents_are_needed_where_points_enter(tmp_path: Path) -> None:
    """Nine of 24 points enter, three climb, one runs in full; six of them share each of three pruned parents."""
    plan = plan_of(make_laddered(tmp_path, budget={"trials": 1}))
    assert stages(plan)["channel_prune"].to_make == pytest.approx(3 * (1 - math.comb(18, 9) / math.comb(24, 9)))
    assert [stages(plan)[n].to_make for n in ("ptq@ptq", "qat@short", "qat@full")] == pytest.approx([9, 3, 1])


def test_a_spent_budget_needs_nothing(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 1})
    point = grid(spec)[0]
    plan = plan_of(spec, records=[record(spec, 0, point)], artifacts=[10])
    assert {stage.to_make for stage in plan.stages} == {0.0}
    assert (plan.seconds, plan.more_stages_bytes, plan.more_artifacts_bytes, plan.unknown) == (0, 0, 0, ())


def test_further_runs_of_a_point_are_no_trials_of_the_budget(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, repeats={"seeds": 3})
    first = record(spec, 0, grid(spec)[0])
    again = first.model_copy(
        update={"assignment": first.assignment.model_copy(update={"repeat": 1, "config_key": "a" * 64})}
    )
    plan = plan_of(spec, records=[first, again])
    assert (plan.done, plan.repeats) == (1, True)


def test_a_remembered_failure_is_no_work_and_no_measurement(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, budget={"trials": 18})
    failed = [entry(keys_of(spec, point)[-1], "ptq", failed=True) for point in grid(spec)]
    last = stages(plan_of(spec, entries=failed))["ptq@full"]
    assert (last.cached, last.to_make, last.seconds_each, last.bytes_each) == (18, 0, None, None)


def test_seconds_and_bytes_are_medians_of_what_was_measured(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, budget={"trials": 18})
    points = grid(spec)
    entries = [
        entry(keys_of(spec, points[i])[-1], "ptq", seconds=s, size_bytes=b)
        for i, (s, b) in enumerate([(1, 10), (2, 20), (9, 90)])
    ]
    plan = plan_of(spec, entries=[*entries, entry("a" * 64, "ptq", failed=True)], artifacts=[5, 7, 100])
    last = stages(plan)["ptq@full"]
    assert (last.seconds_each, last.bytes_each, last.to_make) == (2.0, 20.0, 15)
    assert (plan.seconds, plan.more_stages_bytes) == (30.0, 300.0)
    assert plan.unknown == ("train", "channel_prune")
    assert (plan.stages_bytes, plan.artifacts_bytes, plan.more_artifacts_bytes) == (220, 112, 18 * 7)


def test_a_rung_without_a_measurement_takes_as_long_as_its_epochs(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path)
    points = grid(spec)
    entries = [
        entry(keys_of(spec, point, "short")[-1], "qat", seconds=s)
        for point, s in zip(points[:3], (4, 6, 60), strict=True)
    ]
    found = stages(plan_of(spec, entries=entries))
    assert (found["qat@short"].seconds_each, found["qat@full"].seconds_each) == (6.0, 6.0 / 2 * 9)
    assert found["ptq@ptq"].seconds_each is None
    measured = [*entries, entry(keys_of(spec, points[7])[-1], "qat", seconds=20)]
    found = stages(plan_of(spec, entries=measured))
    assert (found["qat@short"].seconds_each, found["qat@full"].seconds_each) == (6.0, 20.0)


def test_trials_outside_of_the_space_are_measurements_too(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, space={"prune_frac": [0.0, 0.5], "w_bits": [4], "a_bits": [8]})
    outside: Point = {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}
    entries = [entry(keys_of(spec, outside, "short")[-1], "qat", seconds=6.0)]
    assert stages(plan_of(spec, entries=entries))["qat@short"].seconds_each is None
    plan = plan_of(spec, entries=entries, records=[record(spec, 0, outside, "short")])
    assert stages(plan)["qat@short"].seconds_each == 6.0


def test_a_teacher_is_a_stage_where_something_learns_from_it(tmp_path: Path) -> None:
    wide = BaselineTrain(model=ModelConfig(width=2.0), schedule=Schedule(epochs=1, lr=0.1))
    base = make_spec(tmp_path).base.model_copy(update={"teacher": wide})
    assert stages(plan_of(make_spec(tmp_path, base=base)))["train"].distinct == 1
    assert base.prune is not None
    learns = base.prune.fine_tune.model_copy(update={"distill": Distillation()})
    base = base.model_copy(update={"prune": base.prune.model_copy(update={"fine_tune": learns})})
    spec = make_spec(tmp_path, base=base, budget={"trials": 18})
    known = entry(teacher_key(base, fingerprint=PRINT), "train")
    assert stages(plan_of(spec))["train"].to_make == 2
    assert stages(plan_of(spec, entries=[known]))["train"].to_make == 1


HUGE = {
    "prune_frac": [0.0, 0.25, 0.5],
    **{f"w_bits.{g}": list(range(2, 9)) for g in ("head", "depthwise", "projection")},
}


def test_a_huge_space_is_judged_by_a_sample(tmp_path: Path) -> None:
    space = {**HUGE, "a_bits": {"low": 2, "high": 8}, "w_bits.expansion": list(range(2, 9))}
    spec = make_spec(tmp_path, space=space, budget={"trials": 50})
    assert spec.space.size == 3 * 7**5 > 2000
    plan = plan_of(spec)
    found = stages(plan)
    assert (plan.points, plan.counted, plan.sampled) == (3 * 7**5, 2000, True)
    assert [found[n].distinct for n in ("train", "channel_prune", "ptq@full")] == [1, 2, 2000]
    assert found["train"].to_make == 1
    assert found["channel_prune"].to_make == pytest.approx(2, abs=1e-6)
    assert found["ptq@full"].to_make == pytest.approx(50)
    assert plan_of(spec) == plan
    few = plan_of(spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 1})}))
    assert (stages(few)["train"].to_make, stages(few)["ptq@full"].to_make) == pytest.approx((1, 1))
    assert stages(few)["channel_prune"].to_make == pytest.approx(2 / 3, abs=0.05)


def write_baseline(folder: ExperimentFolder, spec: ExperimentSpec) -> None:
    names = [name for name, field in BaselineInfo.model_fields.items() if field.annotation is int]
    info = BaselineInfo(
        key=stage_keys(spec.base, fingerprint=PRINT)[0],
        fingerprint=PRINT,
        accuracy=0.9,
        seconds=1.0,
        **dict.fromkeys(names, 10),
    )
    folder.baseline_file.parent.mkdir(parents=True)
    folder.baseline_file.write_text(info.model_dump_json())


def test_an_experiment_is_read_without_its_data_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path)
    point = grid(spec)[0]
    folder = make_experiment(tmp_path, [record(spec, 0, point)])
    write_baseline(folder, spec)
    (folder.artifacts / "trial").mkdir(parents=True)
    (folder.artifacts / "trial" / "model.mbq").write_bytes(b"12345")
    monkeypatch.setattr("trainables.data.data_sets.load_data", pytest.fail)
    before = sorted(tmp_path.rglob("*"))
    plan = read_plan(spec)
    assert sorted(tmp_path.rglob("*")) == before
    assert (plan.done, plan.artifacts_bytes, plan.more_artifacts_bytes) == (1, 5, 9 * 5)
    assert plan.images is not None
    known = plan_of(spec, records=[record(spec, 0, point)], artifacts=[5])
    assert plan.model_copy(update={"images": None}) == known
    data = DataConfig(name="cifar10", root=str(tmp_path / "none"))
    monkeypatch.setattr("tune_app.stages.plan.image_needs", lambda config: image_needs(data))
    assert read_plan(spec) == known  # the images may be on other machines alone


def test_images_are_planned_before_and_after_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: "Cli"
) -> None:
    root = write_folder(tmp_path / "images", *draw(60))
    cache = tmp_path / "cache"
    data = DataConfig(name="image_folder", root=str(root), cache=str(cache), image_size=16)
    spec = make_spec(tmp_path)
    spec = spec.model_copy(update={"base": spec.base.model_copy(update={"data": data})})
    plan = read_plan(spec)
    assert not cache.exists()
    pixels = 48 * 3 * 16 * 16
    assert plan.images is not None
    expected = {"count": 48, "device_bytes": pixels, "disk_bytes": pixels, "decoded": False, "streamed": False}
    assert plan.images.model_dump() == {**expected, "folder": str(cache)}
    load_data(data)
    assert sum(file.stat().st_size for file in cache.glob("*.arrow")) == pytest.approx(pixels, rel=0.5)
    after = read_plan(spec)
    assert after.images is not None
    assert after.images.decoded
    assert after.stages == plan.stages
    monkeypatch.setattr("trainables.data.data_sets.IN_MEMORY_BYTES", pixels - 1)
    larger = read_plan(spec)
    assert larger.images is not None
    assert larger.images.streamed
    tiny = tiny_spec(tmp_path / "runs")
    tiny = tiny.model_copy(update={"base": tiny.base.model_copy(update={"data": data})})
    file = write_spec(tmp_path / "spec.yaml", tiny)
    said = cli("plan", file).out
    line = f"images: 48 train and validate, {pixels:,} bytes on a GPU that has room, else read batch by batch; "
    assert f"{line}{pixels:,} bytes on disk, decoded on this machine, in {cache}" in said


def test_an_experiment_of_another_base_is_refused(tmp_path: Path) -> None:
    make_experiment(tmp_path)
    spec = make_spec(tmp_path)
    other = spec.model_copy(update={"base": spec.base.model_copy(update={"seed": 1})})
    with pytest.raises(ConfigError, match="holds an experiment with another base"):
        read_plan(other)


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    data = DataConfig(name="cifar10", root=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none"):
        read_plan(spec.model_copy(update={"base": spec.base.model_copy(update={"data": data})}))


Cli = Callable[..., Result]


def test_a_new_search_is_planned_from_its_spec_alone(cli: Cli, tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs"))
    result = cli("plan", path)
    assert (result.code, result.err) == (0, "")
    assert [p.name for p in tmp_path.iterdir()] == ["spec.yaml"]
    lines = result.out.splitlines()
    assert lines[:3] == [
        "tiny: 6 points; budget 6 trials, 0 done",
        "sampler: grid",
        "rung full, 2 epochs of training: 6 trials, 0 done",
    ]
    assert "nobody has measured train, channel_prune, qat@full" in result.out
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("train", "channel", "qat"))}
    assert rows["qat@full"] == ["6", "0", "6.0", "unknown", "unknown", "unknown"]
    assert max(map(len, lines)) <= 120
    one = cli("plan", path, "--set", "budget.trials=1", "--set", "base.quantize.schedule.epochs=1").out
    assert "6 points; budget 1 trial, 0 done" in one
    assert "1 epoch of training: 1 trial, 0 done" in one
    content = json.loads(cli("plan", path, "--json").out)
    assert content["points"] == 6
    assert [stage["distinct"] for stage in content["stages"]] == [1, 1, 6]


@pytest.mark.parametrize(
    ("budget", "rungs", "said"),
    [
        (5, {"ptq": 5, FULL: 5}, "ptq first where that may spare a full trial"),
        (6, {FULL: 6}, "all points run: the budget is for as many"),
    ],
)
def test_a_plan_says_how_a_spec_without_a_sampler_searches_and_why(
    budget: int, rungs: dict[str, int], said: str, tmp_path: Path
) -> None:
    plain = tiny_spec(tmp_path / "runs").model_dump(exclude={"sampler", "fidelity"})
    plan = make_plan(ExperimentSpec.model_validate({**plain, "budget": budget}), fingerprint="f")
    assert plan.search == f"ehvi, by expected new hypervolume for a second of training; {said}"
    assert {rung.name: rung.trials for rung in plan.rungs} == rungs


def test_a_plan_in_words_has_every_sum(cli: Cli, tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 2}, repeats={"seeds": 3})
    folder = ExperimentFolder(spec.folder)
    folder.path.mkdir()
    folder.spec_file.write_text(dump_spec(spec))
    write_baseline(folder, spec)
    path = write_spec(tmp_path / "spec.yaml", spec)
    out = cli("plan", path).out
    assert "rung short, 2 epochs of training: 6 trials, 0 done" in out
    assert "repeats: further runs" in out
    assert "still to run: at least 0 s of stages" in out
    assert "disk: stages 0 bytes, at least 0 more to come; artifacts 0 bytes, unknown more to come" in out


def test_a_bad_spec_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: x\n")
    result = cli("plan", tmp_path / "spec.yaml")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
