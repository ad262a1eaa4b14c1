"""Names of plug-ins: ours, those of this process, and those that installed packages bring."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.samplers import SAMPLERS
from tests.specs import tiny_spec
from tests.tune_app.factories import REFERENCE, make_baseline_info, make_record, make_spec, make_steps
from tests.tune_app.search.test_proposer import open_proposer
from trainables.config import (
    CODERS,
    DATASETS,
    IMPORTANCE,
    MODELS,
    OBSERVERS,
    QUANTIZERS,
    SPARSITY,
    DataConfig,
    TrialConfig,
    data_key,
    stage_keys,
    teacher_key,
    trial_key,
    trial_packages,
)
from trainables.data.data_sets import load_data
from trainables.errors import ConfigError, InfeasiblePoint
from trainables.registry import Registry, source
from trainables.storage import replace
from tune_app.artifacts.reproduce import Reproduction
from tune_app.engine.baseline import make_baseline
from tune_app.engine.in_process import InProcess
from tune_app.engine.preflight import checks, report_node
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord, latest
from tune_app.ledger.versions import REGISTRIES, packages_of, plug_ins_of, refuse_other_versions
from tune_app.run.search import run_search
from tune_app.run.warm_start import compare
from tune_app.search.keys import config_key
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.plan import read_plan


def test_a_plug_in_is_registered_once() -> None:
    registry: Registry[object] = Registry("thing", {"join": "os.path:join"})
    thing = registry.register("mine")(object())
    assert registry["mine"] is thing
    assert registry.register("mine")(thing) is thing
    assert registry.names() == ["join", "mine"]
    with pytest.raises(ConfigError, match="thing 'mine' is registered already"):
        registry.register("mine")(object())
    with pytest.raises(ConfigError, match="thing 'join' is registered already"):
        registry.register("join")(object())
    with pytest.raises(ConfigError, match=r"unknown thing 'xyz'; known: join, mine\.$"):
        registry["xyz"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_an_installed_package_adds_a_name(registry: Registry[object], install: Callable[..., None]) -> None:
    install("tiny", registry.group, tiny_one="os.path:join")
    assert "tiny_one" in registry.names()
    assert registry.check("tiny_one") == "tiny_one"
    found = registry["tiny_one"]
    assert getattr(found, "make", found).__name__ == "join"  # a sampler keeps what it was given
    assert source(registry.installed()["tiny_one"]) == "tiny 1.5"
    with pytest.raises(ConfigError, match="Did you mean 'tiny_one'"):
        registry.check("tiny_on")
    assert all("tiny_one" not in other.names() for other in REGISTRIES if other is not registry)


def test_a_spec_may_name_what_a_package_brings(install: Callable[..., None]) -> None:
    with pytest.raises(ConfigError, match="unknown data set 'own'"):
        DataConfig(name="own", root="data")
    install("tiny", DATASETS.group, own="tiny_data:load")
    assert DataConfig(name="own", root="data").name == "own"


def test_a_name_of_ours_cannot_be_replaced(install: Callable[..., None]) -> None:
    install("tiny", IMPORTANCE.group, l1="tiny:l1")
    assert IMPORTANCE["l1"].__module__ == "trainables.prune.importance"
    with pytest.raises(ConfigError, match=r"importance criterion 'l1' of tiny 1\.5 is the name of another one"):
        IMPORTANCE.names()


def test_two_packages_with_one_name_are_refused(install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net="tiny:Net")
    install("huge", MODELS.group, net="huge:Net")
    with pytest.raises(ConfigError, match=r"'net' of tune_app\.models is in \w+ 1\.5 and in \w+ 1\.5: remove one"):
        MODELS.check("net")


@pytest.mark.parametrize("place", ["no_such_module:Net", "os.path:no_such_name"])
def test_a_plug_in_that_cannot_be_imported_is_named(place: str, install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net=place)
    assert MODELS.check("net")
    with pytest.raises(ConfigError, match=rf"model 'net' of tiny 1\.5 cannot be imported from {place}: .*no_such"):
        MODELS["net"]


def test_packages_are_those_whose_names_are_used(install: Callable[..., None]) -> None:
    install("tiny", MODELS.group, net="tiny:Net")
    install("huge", DATASETS.group, photos="huge:load")
    spec = {"base": {"model": {"name": "net"}}, "space": {"importance": ["l1", "l2"]}}
    assert packages_of(spec) == ["tiny"]
    assert packages_of({"names": ["photos", "net", "l1"]}) == ["huge", "tiny"]
    assert packages_of({}) == []


ONE = {"epochs": 1, "lr": 0.1}
TRIAL: dict[str, Any] = {
    "data": {"name": "digits"},
    "baseline": {"kind": "train", "schedule": ONE, "model": {"name": "mobilenet_v2"}},
    "prune": {"prune_frac": 0.3, "fine_tune": ONE, "importance": "l1"},
    "sparsify": {"sparsity": 0.3, "schedule": ONE, "criterion": "lamp"},
    "quantize": {
        "kind": "ptq",
        "scheme": {"quantizer": "lsq", "observer": "mse"},
        "auto_bits": {"budget_bytes": 50_000},
    },
}
KINDS = ["train", "channel_prune", "sparsify", "sensitivity", "ptq"]
FIRST = {
    "data name": (DATASETS, "train"),
    "baseline model name": (MODELS, "train"),
    "prune importance": (IMPORTANCE, "channel_prune"),
    "sparsify criterion": (SPARSITY, "sparsify"),
    "quantize scheme observer": (OBSERVERS, "sensitivity"),
    "quantize scheme quantizer": (QUANTIZERS, "ptq"),
    "quantize scheme activation_observer": (OBSERVERS, "ptq"),
}
"""By field, where it is looked up, and the first stage that uses it."""


def trial(field: str = "", name: str = "own") -> TrialConfig:
    """The trial with a plug-in's name in a field."""
    content = TrialConfig.model_validate(TRIAL).model_dump()
    if field:
        *parents, last = field.split()
        part = content
        for parent in parents:
            part = part[parent]
        part[last] = name
    return TrialConfig.model_validate(content)


def named(config: TrialConfig) -> list[str]:
    """The keys of its stages, and of the trial."""
    return [*stage_keys(config, fingerprint="f"), trial_key(config, fingerprint="f")]


@pytest.mark.parametrize("field", FIRST)
def test_another_version_of_a_plug_in_names_what_it_makes_anew(field: str, install: Callable[..., None]) -> None:
    registry, kind = FIRST[field]
    install("tiny", registry.group, own="tiny:own")
    assert [stage.kind for stage in trial(field).stages()] == KINDS
    before = named(trial(field))
    install("tiny", registry.group, own="tiny:own")
    assert named(trial(field)) == before
    assert trial_packages(trial(field)) == ["tiny 1.5"]
    install("tiny", registry.group, version="1.6", own="tiny:own")
    after = named(trial(field))
    assert [a == b for a, b in zip(before, after, strict=True)] == [i < KINDS.index(kind) for i in range(6)]


def test_every_installed_coder_has_a_part_in_sizes(install: Callable[..., None]) -> None:
    before = named(trial())
    install("tiny", CODERS.group, own="tiny:own")
    once = named(trial())
    assert [a == b for a, b in zip(before, once, strict=True)] == [True, True, True, False, False, False]
    install("tiny", CODERS.group, version="1.6", own="tiny:own")
    assert len({before[-1], once[-1], named(trial())[-1]}) == 3
    plain = trial().model_copy(update={"quantize": trial().quantize.model_copy(update={"auto_bits": None})})
    with_coder = named(plain)
    install("tiny", SAMPLERS.group, own="tiny:own")
    assert [a == b for a, b in zip(named(plain), with_coder, strict=True)] == [True, True, True, True, False]


def test_a_teacher_is_named_by_the_version_of_its_model(install: Callable[..., None]) -> None:
    def config() -> TrialConfig:
        teacher = {"kind": "train", "schedule": ONE, "model": {"name": "own"}}
        tuned = {**TRIAL["prune"], "fine_tune": {**ONE, "distill": {}}}
        return TrialConfig.model_validate({**TRIAL, "teacher": teacher, "prune": tuned})

    install("tiny", MODELS.group, own="tiny:Net")
    before, known = named(config()), teacher_key(config(), fingerprint="f")
    assert trial_packages(config()) == ["tiny 1.5"]
    install("tiny", MODELS.group, version="1.6", own="tiny:Net")
    assert teacher_key(config(), fingerprint="f") != known
    assert [a == b for a, b in zip(before, named(config()), strict=True)] == [True, *[False] * 5]


def test_plug_ins_that_a_trial_does_not_name_change_nothing(install: Callable[..., None]) -> None:
    """The first two are from before keys knew of packages; only a new VERSION of a stage may change them."""
    before, data = named(trial()), data_key(DataConfig(), "f")
    assert before[0] == "08697a2164bc1285e018fcd8b359b77a5d33a42368e5fb795f80811067973d5c"
    assert before[-1] == "9c0022cd6e0dc4f46251db53cac20280fe22f13660518a90116a378ef26ec212"
    for registry in REGISTRIES:
        if registry is not CODERS:
            install(f"tiny_{registry.group.partition('.')[2]}", registry.group, own="tiny:own")
    assert named(trial()) == before
    assert data_key(DataConfig(), "f") == data
    assert trial_packages(trial()) == []


def test_what_a_process_registers_has_no_version() -> None:
    registry: Registry[object] = Registry("thing", {"join": "os.path:join"}, group="tune_app.things")
    registry.register("mine")(object())
    assert [registry.package(name) for name in ("mine", "join", "none")] == ["", "", ""]


LARGEST = """
from trainables.prune.importance import of_filters

@of_filters
def largest(filters):
    return filters.abs().amax(1)
"""


def searched(storage: Path, importance: list[str], trials: int = 2) -> ExperimentSpec:
    """A search of seconds: a pruned point for each criterion."""
    tiny = tiny_spec(storage)
    base = tiny.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 1, "batch_size": 64}
    base["prune"]["fine_tune"] |= {"epochs": 1, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    space = {"prune_frac": [0.5], "importance": importance, "w_bits": [8, 4]}
    changes = {"base": base, "space": space, "budget": {"trials": trials}}
    return ExperimentSpec.model_validate({**tiny.model_dump(), **changes})


def newest(spec: ExperimentSpec) -> list[TrialRecord]:
    return latest(Ledger(ExperimentFolder(spec.folder).trials).read()[0])


def test_an_experiment_keeps_the_versions_of_its_plug_ins(install: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "tiny_plug_in.py").write_text(LARGEST)
    place = "tiny_plug_in:largest"
    install("tiny", IMPORTANCE.group, version="1.0", own=place)
    spec = searched(tmp_path / "runs", ["own"], trials=1)
    run_search(spec, engine=InProcess())
    [first] = newest(spec)
    assert first.state == "complete", first.reason
    assert first.environment["plug_ins"] == "tiny 1.0"
    install("tiny", IMPORTANCE.group, version="1.1", own=place)
    words = r"p50_importance=own_w4 of 'tiny' was made by tiny 1\.0 and here is tiny 1\.1: install what made it"
    for spent in (spec, searched(tmp_path / "runs", ["own"])):
        with pytest.raises(ConfigError, match=words):
            run_search(spent, engine=InProcess())
        with pytest.raises(ConfigError, match=words):
            read_plan(spent)
    assert newest(spec) == [first]
    install("tiny", IMPORTANCE.group, version="1.0", own=place)
    assert run_search(searched(tmp_path / "runs", ["own"]), engine=InProcess()).new == 1


def test_a_baseline_of_another_version_is_refused(install: Callable[..., None], tmp_path: Path) -> None:
    install("tiny", MODELS.group, own="tiny:own")
    base = {**TRIAL, "baseline": {**TRIAL["baseline"], "model": {"name": "own"}}}
    spec = make_spec(tmp_path, base=base)
    data = dataclasses.replace(load_data(spec.base.data), fingerprint="f")
    info = make_baseline_info().model_copy(update={"key": stage_keys(spec.base, fingerprint="f")[0]})
    replace(ExperimentFolder(spec.folder).baseline_file, info.model_dump_json().encode())
    install("tiny", MODELS.group, version="1.6", own="tiny:own")
    with pytest.raises(
        ConfigError, match=r"the baseline stage is not the one that .* \(here it is made by tiny 1\.6\)"
    ):
        make_baseline(spec, data)


def test_what_a_plug_in_had_no_part_in_goes_on_with_any_version(install: Callable[..., None], tmp_path: Path) -> None:
    install("tiny", IMPORTANCE.group, own="tiny:own")
    spec = searched(tmp_path, ["l1", "own"])
    ours = make_record(0, {"prune_frac": 0.5, "importance": "l1", "w_bits": 8})
    params = {**ours.assignment.params, "importance": "own"}
    made = make_record(1, params, environment={"plug_ins": plug_ins_of(spec.trial(params))})
    failed = make_record(2, {**params, "w_bits": 4}, state="failed", environment={"plug_ins": "tiny 1.5"})
    refuse_other_versions([ours, made, failed], spec)
    install("tiny", IMPORTANCE.group, version="1.6", own="tiny:own")
    refuse_other_versions([ours, failed], spec)
    with pytest.raises(ConfigError, match=r"by tiny 1\.5 and here is tiny 1\.6"):
        refuse_other_versions([ours, made, failed], spec)
    refuse_other_versions([made], searched(tmp_path, ["l1"]))  # it is no point of that space
    with pytest.raises(ConfigError, match=r"by no version that it noted and here is tiny 1\.6"):
        refuse_other_versions([make_record(1, params)], spec)


def test_a_coder_that_came_or_went_is_another_version(install: Callable[..., None], tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    params = {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}
    with_coder = make_record(0, params, environment={"plug_ins": "tiny 1.5"})
    with pytest.raises(ConfigError, match=r"by tiny 1\.5 and here is no plug-in"):
        refuse_other_versions([with_coder], spec)
    install("tiny", CODERS.group, own="tiny:own")
    refuse_other_versions([with_coder], spec)
    with pytest.raises(ConfigError, match=r"by no version that it noted and here is tiny 1\.5"):
        refuse_other_versions([make_record(0, params)], spec)


def test_results_of_another_version_are_advice_for_a_warm_start(install: Callable[..., None], tmp_path: Path) -> None:
    install("tiny", IMPORTANCE.group, own="tiny:own")
    spec = searched(tmp_path, ["l1", "own"])
    records = []
    for number, name in enumerate(("l1", "own")):
        params = {"prune_frac": 0.5, "importance": name, "w_bits": 8}
        made = make_record(number, params)
        work = made.assignment.model_copy(update={"config_key": config_key(spec, "f", params)})
        records.append(made.model_copy(update={"assignment": work}))

    def key_of(params: Any, repeat: int = 0) -> str:
        return config_key(spec, "f", params, repeat=repeat)

    assert compare(records, spec, spec, key_of).results == records
    install("tiny", IMPORTANCE.group, version="1.6", own="tiny:own")
    found = compare(records, spec, spec, key_of)
    assert (found.results, found.advice) == (records[:1], records[1:])


def renamed(record: TrialRecord, key: str, *, attempt: int = 1, **more: Any) -> TrialRecord:
    """The record of a version whose keys were others."""
    work = record.assignment.model_copy(update={"config_key": key, "attempt": attempt})
    return record.model_copy(update={"assignment": work, **more})


def test_what_runs_again_is_named_by_the_version_that_runs_it(tmp_path: Path) -> None:
    spec, before = make_spec(tmp_path), "0" * 64
    begun, failed = [make_record(i, {"prune_frac": 0.0, "w_bits": w, "a_bits": 8}) for i, w in enumerate((8, 4))]
    failure = {"result": make_record(1, {}, state="failed").result}
    old, key = renamed(failed, before, **failure), failed.assignment.config_key

    def again(*records: TrialRecord) -> list[tuple[str, int]]:
        in_flight = [renamed(begun, "1" * 64).assignment]
        proposer = open_proposer(spec, records, in_flight=in_flight, retry_failed=True)
        return [(work.config_key, work.attempt) for work in proposer.pending]

    first = (begun.assignment.config_key, 1)
    assert again(old) == [first, (key, 2)]
    assert again(old, renamed(failed, key, attempt=2, **failure)) == [first, (key, 3)]
    assert again(old, renamed(failed, key, attempt=2)) == [first]


def test_a_point_that_is_no_configuration_any_more_is_left_to_its_trial(tmp_path: Path) -> None:
    def no_key(params: Any, repeat: int = 0) -> str:
        raise InfeasiblePoint("a name is unknown")

    spec = make_spec(tmp_path, repeats={"seeds": 3})
    work = make_record(0, {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}, repeat=1).assignment
    proposer = Proposer(spec, key_of=no_key, steps_of=make_steps, reference=REFERENCE, in_flight=[work])
    assert proposer.pending == [work]


def test_a_node_with_other_coders_is_found(install: Callable[..., None], tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    without = report_node(spec, "").model_copy(update={"same_storage": True})
    install("tiny", CODERS.group, own="tiny:own")
    with_coder = report_node(spec, "").model_copy(update={"same_storage": True, "host": "b"})
    for driver, node, says in (
        (without, with_coder, "none, but b has tiny 1.5"),
        (with_coder, without, "tiny 1.5, but"),
    ):
        [found] = [f for f in checks(spec, driver, [node], live=[{"CPU": 1}]) if f.rule == "version of coders"]
        assert not found.holds
        assert says in found.found
    assert all(f.rule != "version of coders" for f in checks(spec, without, [without], live=[{"CPU": 1}]))


def test_reproducing_with_another_version_names_both() -> None:
    first, again = (make_record(0, {"w_bits": 4}, environment={"plug_ins": f"tiny {v}"}) for v in ("1.5", "1.6"))
    assert Reproduction(first, again, Path()).changed == ["plug_ins: tiny 1.5 → tiny 1.6"]
