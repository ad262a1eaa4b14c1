"""One trial in plain Python: every end is a record, and numbers that are none never become objectives."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import trainables.measure
import trainables.pipeline
from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from trainables.data.data_sets import load_data
from trainables.errors import Diverged, StorageUnavailable
from trainables.results import Completed
from trainables.stages.files import read_stage
from trainables.stages.workplace import Workplace, open_workplace
from trainables.storage import replace
from tune_app.engine.baseline import make_baseline
from tune_app.engine.live_view import result_line
from tune_app.engine.trial import run_trial
from tune_app.frontier.points import frontier, frontier_ids, group_runs
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.ledger.training_cost import training_seconds
from tune_app.search.keys import config_key, shared_start
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.tables.trial_rows import trial_rows


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    spec = tiny_spec(tmp_path, sampler={"name": "tpe"})
    quick = {"epochs": 1, "lr": 0.05, "batch_size": 64}
    base = spec.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 2}
    base["prune"]["fine_tune"] |= quick
    base["quantize"] = {"kind": "ptq"}
    return ExperimentSpec.model_validate({**spec.model_dump(), "base": base})


@pytest.fixture
def workplace(spec: ExperimentSpec) -> Workplace:
    return open_workplace(load_data(spec.base.data), ExperimentFolder(spec.folder).stages, cpu=1, gpu=0)


def assignment(spec: ExperimentSpec, workplace: Workplace, number: int = 0) -> Assignment:
    params = spec.space.point(number)
    key = config_key(spec, workplace.data.fingerprint, params)
    return Assignment(number=number, config_key=key, params=params, seed=0)


def run(spec: ExperimentSpec, workplace: Workplace, number: int = 0) -> TrialRecord:
    return run_trial(assignment(spec, workplace, number), spec, ExperimentFolder(spec.folder), workplace)


def spoil(monkeypatch: pytest.MonkeyPatch, **numbers: float | None) -> None:
    """Replaces measured numbers, after the real measurement."""
    measure = trainables.measure.measure

    def spoiled(*args: object, **options: object) -> object:
        return measure(*args, **options).model_copy(update=numbers)  # type: ignore[arg-type]

    monkeypatch.setattr(trainables.pipeline, "measure", spoiled)


def test_an_objective_without_a_value_ends_the_trial(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, cross_entropy=None)
    record = run(spec.model_copy(update={"objectives": {"cross_entropy": "minimize"}}), workplace)
    assert record.reason == "NotFinite: cross_entropy is None; objectives must be finite numbers"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_reaches_neither_sampler_nor_frontier(
    value: float, spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, accuracy=value)
    record = run(spec, workplace)
    assert record.state == "invalid"
    assert record.reason.startswith("NotFinite: accuracy is")
    assert record.metrics() == {}
    assert frontier_ids([record], spec) == []
    proposer = Proposer(
        spec,
        key_of=lambda p, _=0: config_key(spec, workplace.data.fingerprint, p),
        steps_of=lambda params, rung: [],
        reference={"accuracy": 0.1, "size_bytes": 1e6},
        records=[record],
    )
    [trial] = proposer._strategy._studies["full"]._study.get_trials()  # type: ignore[attr-defined]
    assert (trial.state.name, trial.values) == ("FAIL", None)


def test_a_card_or_record_never_holds_nan(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, accuracy=float("nan"))
    run(spec, workplace)
    written = [*ExperimentFolder(spec.folder).trials.glob("*.json"), *spec.folder.glob("artifacts/*/card.json")]
    assert len(written) == 2
    for path in written:
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_an_error_of_any_kind_is_a_record_with_its_traceback(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(trainables.pipeline, "measure", broken)
    record = run(spec, workplace)
    assert record.state == "failed"
    assert record.reason == "UnexpectedError: ZeroDivisionError: on purpose"
    assert "in broken" in record.result.failure.traceback  # type: ignore[union-attr]
    assert [(cost.kind, cost.cached) for cost in record.result.stages] == [("train", False), ("ptq", False)]
    assert Ledger(ExperimentFolder(spec.folder).trials).find(record.assignment.trial_id) == record


def test_an_error_that_cannot_say_what_it_is_is_a_record_too(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            return self.args[0]  # there is none

    def broken(*args: object, **options: object) -> None:
        raise Mute

    monkeypatch.setattr(trainables.pipeline, "measure", broken)
    record = run(spec, workplace)
    assert record.reason == "UnexpectedError: Mute: <exception str() failed>"
    assert "in broken" in record.result.failure.traceback  # type: ignore[union-attr]


@pytest.mark.parametrize("more", ["", " and so on" * 1_000_000])
def test_a_message_of_many_lines_is_one_line_that_people_can_read(
    more: str, spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError(f"CUDA error: no device\n  Compile with `TORCH_USE_CUDA_DSA`\n{more}")

    monkeypatch.setattr(trainables.pipeline, "measure", broken)
    record = run(spec, workplace)
    line = result_line(record)
    assert "UnexpectedError: RuntimeError: CUDA error: no device Compile with `TORCH_USE_CUDA_DSA`" in line
    assert len(line.splitlines()) == 1
    assert len(line) < 2_000
    assert line.endswith("…") == bool(more)


def test_a_network_at_chance_is_recorded_with_its_measurement(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainables.measure, "chance_limit", lambda _: 1.0)
    record = run(spec, workplace, 3)  # pruned
    folder = ExperimentFolder(spec.folder)
    assert Ledger(folder.trials).find(record.assignment.trial_id) == record
    assert (record.state, record.metrics(), record.is_fault) == ("invalid", {}, False)
    groups = group_runs([record], spec)
    [row] = trial_rows([record], groups, frontier(groups, spec), spec)
    assert row["reason"].startswith("Collapsed: accuracy 0.")
    assert row["accuracy"] == row["accuracy_trained"] > 0
    assert row["size_bytes"] == (folder.artifacts / record.assignment.trial_id / "model.mbq").stat().st_size
    assert row["prune_frac_requested"] == record.assignment.params["prune_frac"]
    assert None not in (row["accuracy_pruned"], row["accuracy_fine_tuned"])
    assert not row["on_frontier"]


def test_a_failure_names_its_stage_in_the_record(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise Diverged("the loss is nan")

    monkeypatch.setattr("trainables.prune.channel_prune.fit", diverge)
    record, again = run(spec, workplace, 3), run(spec, workplace, 4)
    assert (record.state, record.result.failure.stage) == ("invalid", "channel_prune")  # type: ignore[union-attr]
    stages = [[(cost.kind, cost.cached) for cost in found.result.stages] for found in (record, again)]
    # The second trial finds the baseline, and the memory of the failure.
    assert stages == [[("train", False), ("channel_prune", False)], [("train", True), ("channel_prune", True)]]
    assert 0 < training_seconds(record) <= record.seconds
    assert training_seconds(again) == 0


def test_a_storage_that_went_away_is_no_failed_trial(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise StorageUnavailable("no space left")

    monkeypatch.setattr(trainables.pipeline, "create_once", full)
    with pytest.raises(StorageUnavailable):
        run(spec, workplace)
    assert not list(ExperimentFolder(spec.folder).trials.glob("*.json"))


def test_a_repeat_is_another_result_with_a_file_of_its_own(spec: ExperimentSpec, workplace: Workplace) -> None:
    first = run(spec, workplace, 3)  # pruned, so that it trains
    params = first.assignment.params
    key = config_key(spec, workplace.data.fingerprint, params, repeat=1)
    work = Assignment(number=1, config_key=key, params=params, repeat=1, seed=0)
    again = run_trial(work, spec, ExperimentFolder(spec.folder), workplace)
    assert isinstance(first.result, Completed)
    assert isinstance(again.result, Completed)
    assert [c.cached for c in again.result.stages] == [True, False, False]
    assert again.result.artifact_sha256 != first.result.artifact_sha256
    assert len(list(spec.folder.glob("artifacts/*/model.mbq"))) == 2
    assert shared_start(spec, workplace.data.fingerprint, work) == again.result.stages[-2].key
    assert shared_start(spec, workplace.data.fingerprint, first.assignment) == first.result.stages[-2].key


def test_a_worker_reads_shared_stages_once_and_answers_repeats_from_the_ledger(
    spec: ExperimentSpec, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(spec, workplace, 0)
    assert isinstance(first.result, Completed)
    read_stage.cache_clear()
    for number in (1, 2):
        assert run(spec, workplace, number).state == "complete"
    keys = {cost.key for number in (1, 2) for cost in run(spec, workplace, number).result.stages}
    assert read_stage.cache_info().misses == len(keys) == 3  # the baseline once, and one result each
    monkeypatch.setattr(trainables.pipeline, "run_stages", pytest.fail)
    assert run(spec, workplace, 0) == first


def test_trials_of_a_placeholder_are_complete_and_say_so(tmp_path: Path, cli: Callable[..., Result]) -> None:
    tiny = tiny_spec(tmp_path)
    base = tiny.base.model_dump()
    base["baseline"] = {"kind": "untrained", "model": {"name": "mobilenet_v2", "width": 0.1}}
    base["prune"]["fine_tune"]["epochs"] = 0
    base["quantize"] = {"kind": "ptq"}
    spec = ExperimentSpec.model_validate({**tiny.model_dump(), "base": base})
    folder, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    replace(folder.spec_file, dump_spec(spec).encode())
    info = make_baseline(spec, data)
    place = open_workplace(data, folder.stages, cpu=1, gpu=0)
    records = [run(spec, place, number) for number in (0, 5)]
    assert [record.state for record in records] == ["complete", "complete"], [record.reason for record in records]
    assert all(record.metrics()["accuracy"] < 0.3 for record in records)
    assert info.untrained
    said = {
        name: cli(*words).out
        for name, words in {
            "baseline": ("baseline", write_spec(tmp_path / "spec.yaml", spec)),
            "frontier": ("frontier", spec.folder, "--all"),
            "csv": ("frontier", spec.folder, "--all", "--csv"),
            "summary": ("summary", spec.folder),
        }.items()
    }
    assert said["baseline"].startswith("untrained baseline of tiny: accuracy")
    assert "(untrained baseline: accuracies mean nothing)" in said["frontier"]
    assert "seconds_untrained" in said["csv"].splitlines()[0]
    assert "untrained baseline: " in said["summary"]
    assert json.loads(cli("summary", spec.folder, "--json").out)["baseline"]["untrained"] is True


def test_a_trained_baseline_is_not_called_untrained(
    spec: ExperimentSpec, workplace: Workplace, cli: Callable[..., Result]
) -> None:
    folder = ExperimentFolder(spec.folder)
    replace(folder.spec_file, dump_spec(spec).encode())
    assert not make_baseline(spec, workplace.data).untrained
    run(spec, workplace)
    assert "untrained" not in cli("frontier", spec.folder, "--all").out
