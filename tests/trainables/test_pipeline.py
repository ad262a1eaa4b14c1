import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.factories import CPU, digits, few_digits, make_architecture
from trainables import pipeline
from trainables.config import MeasureConfig, StageConfig, TrialConfig, repeat_seed, stage_keys
from trainables.errors import ArtifactMismatch, Collapsed, Diverged
from trainables.export.packed import unpack
from trainables.measure import measure, packed_scores
from trainables.models.model import build
from trainables.models.units import count_parameters
from trainables.pipeline import run_pipeline, run_stages, run_teacher
from trainables.results import SCORES, Completed
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.stages.workplace import Workplace, open_workplace
from trainables.storage import sha256
from trainables.train.loop import evaluate

SCHEDULE = {"epochs": 2, "lr": 0.02, "batch_size": 32}


def make_trial(w_bits: int = 8, kind: str = "qat", **changes: object) -> TrialConfig:
    quantize: dict[str, object] = {"kind": kind, "scheme": {"w_bits": w_bits}, "bn_images": 512}
    if kind == "qat":
        quantize["schedule"] = {**SCHEDULE, "epochs": 1, "lr": 0.002}
    content = {
        "data": {"image_size": 8, "augment": {"crop_padding": 0}},
        "baseline": {"schedule": {**SCHEDULE, "epochs": 4}, "model": {"width": 0.1}, "kind": "train"},
        "prune": {"prune_frac": 0.3, "round_to": 1, "fine_tune": SCHEDULE},
        "quantize": quantize,
    }
    return TrialConfig.model_validate({**content, **changes})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return open_workplace(digits(), tmp_path_factory.mktemp("stages"), cpu=1, gpu=0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts") / "trial" / "model.mbq"


@pytest.fixture(scope="module")
def completed(workplace: Workplace, artifact: Path) -> Completed:
    return run_pipeline(make_trial(), workplace, artifact)


def log(workplace: Workplace) -> list[dict[str, str]]:
    return [json.loads(line) for line in (workplace.cache.folder / "log.jsonl").read_text().splitlines()]


def starts(workplace: Workplace) -> int:
    return sum(row["event"] == "start" for row in log(workplace))


def test_the_measurement_is_of_the_file(completed: Completed, workplace: Workplace, artifact: Path) -> None:
    found, content = completed.measurement, artifact.read_bytes()
    assert found.size_bytes == len(content) == artifact.stat().st_size
    assert sum(found.size_breakdown.values()) == found.size_bytes
    assert completed.artifact_sha256 == sha256(content)
    assert found.n == 144
    network = unpack(content).network()
    assert found.accuracy == evaluate(network, workplace.val)
    scores = vars(packed_scores(content, workplace.val, CPU))
    assert {name: getattr(found, name) for name in SCORES} == scores
    assert None not in scores.values()
    assert found.accuracy == found.accuracy_trained
    assert found.accuracy > 0.3


def test_the_measurement_counts_the_pruned_network(completed: Completed) -> None:
    found, full = completed.measurement, build(make_architecture(width=0.1))
    assert found.compression_ratio == 4 * count_parameters(full) / found.size_bytes
    assert found.parameters == count_parameters(build(completed.architecture)) < count_parameters(full)
    assert 0.28 < found.prune_frac_achieved <= 0.3
    assert len(completed.architecture.widths) == 3


def test_the_card_beside_the_file_is_the_result(completed: Completed, artifact: Path) -> None:
    assert Completed.model_validate_json(artifact.with_name("card.json").read_bytes()) == completed
    assert {p.name for p in artifact.parent.iterdir()} == {"model.mbq", "card.json"}


def test_every_stage_was_made_once(completed: Completed, workplace: Workplace) -> None:
    keys = stage_keys(make_trial(), fingerprint=workplace.data.fingerprint)
    assert [(c.kind, c.key, c.cached) for c in completed.stages] == [
        ("train", keys[0], False),
        ("channel_prune", keys[1], False),
        ("qat", keys[2], False),
    ]
    made = [(row["event"], row["kind"], row["key"]) for row in log(workplace)][:6]
    kinds = ["train", "channel_prune", "qat"]
    assert made == [(e, kind, key) for kind, key in zip(kinds, keys, strict=True) for e in ("start", "finish")]


def test_a_trial_says_how_each_of_its_stages_ended(completed: Completed, workplace: Workplace, tmp_path: Path) -> None:
    again = run_pipeline(make_trial(), workplace, tmp_path / "model.mbq")
    for trial in (completed, again):  # made here, and read from the cache
        baseline, pruned, quantized = (stage.metrics for stage in trial.stages)
        stored = [run_stages(make_trial(), make_trial().stages()[:n], workplace)[0].metrics for n in (1, 2, 3)]
        assert baseline == {"val_accuracy": stored[0]["val_accuracy"]}
        assert pruned == stored[1]
        assert set(pruned) == {"val_accuracy", "val_accuracy_pruned", "prune_frac_requested", "prune_frac_achieved"}
        assert quantized == {"val_accuracy": trial.measurement.accuracy_trained}


def test_a_second_call_runs_nothing(completed: Completed, workplace: Workplace, tmp_path: Path) -> None:
    before = starts(workplace)
    again = run_pipeline(make_trial(), workplace, tmp_path / "model.mbq")
    assert starts(workplace) == before
    assert all(cost.cached for cost in again.stages)
    assert again.measurement == completed.measurement
    assert again.artifact_sha256 == completed.artifact_sha256


def test_another_bit_width_shares_the_pruned_parent(completed: Completed, workplace: Workplace, tmp_path: Path) -> None:
    before = starts(workplace)
    other = run_pipeline(make_trial(6, kind="ptq"), workplace, tmp_path / "model.mbq")
    assert starts(workplace) == before + 1
    assert [cost.cached for cost in other.stages] == [True, True, False]
    assert [c.key for c in other.stages[:2]] == [c.key for c in completed.stages[:2]]
    assert other.measurement.size_breakdown["codes"] < 0.9 * completed.measurement.size_breakdown["codes"]
    assert other.measurement.parameters == completed.measurement.parameters


def test_a_repeat_starts_from_the_same_baseline_with_random_numbers_of_its_own(
    completed: Completed, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[str, int]] = []

    def spy(stage: Any, context: StageContext) -> StageResult:
        seeds.append((stage.kind, context.seed))
        return run_stage(stage, context)

    monkeypatch.setattr("trainables.pipeline.run_stage", spy)
    teacher = {"kind": "train", "schedule": {**SCHEDULE, "epochs": 1}, "model": {"width": 0.1}}
    trial = make_trial(repeat=1, teacher=teacher)
    learns = {**trial.quantize.schedule.model_dump(), "distill": {"weight": 0.5}}  # type: ignore[union-attr]
    trial = make_trial(repeat=1, teacher=teacher, quantize={**trial.quantize.model_dump(), "schedule": learns})
    again = run_pipeline(trial, workplace, tmp_path / "model.mbq")
    own = repeat_seed(0, 1)
    assert seeds == [("channel_prune", own), ("qat", own), ("train", 0)]
    assert again.stages[0].key == completed.stages[0].key
    assert again.stages[0].cached
    pruned, _ = run_stages(trial, trial.stages()[:2], workplace)
    other, _ = run_stages(make_trial(), make_trial().stages()[:2], workplace)
    assert pruned.architecture == other.architecture
    assert any(not torch.equal(tensor, other.state[name]) for name, tensor in pruned.state.items())


def test_an_unpruned_trial_leaves_the_stage_out(completed: Completed, workplace: Workplace, tmp_path: Path) -> None:
    prune = {"prune_frac": 0.0, "fine_tune": SCHEDULE}
    full = run_pipeline(make_trial(kind="ptq", prune=prune), workplace, tmp_path / "model.mbq")
    assert [cost.kind for cost in full.stages] == ["train", "ptq"]
    assert full.measurement.prune_frac_achieved == 0
    assert full.measurement.size_bytes > completed.measurement.size_bytes


def test_only_the_first_stages_can_be_asked_for(completed: Completed, workplace: Workplace) -> None:
    trial = make_trial()
    result, costs = run_stages(trial, trial.stages()[:1], workplace)
    assert [cost.kind for cost in costs] == ["train"]
    assert result.scheme is None
    assert result.metrics["val_accuracy"] > 0.3


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The packed file of the same network without training."""
    workplace = open_workplace(digits(), tmp_path_factory.mktemp("other"), cpu=1, gpu=0)
    nothing = {"epochs": 0, "lr": 0.1}
    trial = make_trial(
        kind="ptq",
        baseline={"kind": "train", "schedule": nothing, "model": {"width": 0.1}},
        prune={"fine_tune": nothing},
    )
    path = tmp_path_factory.mktemp("artifact") / "model.mbq"
    with pytest.raises(Collapsed, match="is at chance for 10 classes") as caught:
        run_pipeline(trial, workplace, path)
    measured = caught.value.measurement
    assert measured is not None
    assert measured.size_bytes == path.stat().st_size
    assert 0 <= measured.accuracy <= 0.15
    assert measured.accuracy == measured.accuracy_trained
    return path.read_bytes()


def test_altered_weights_are_a_mismatch(completed: Completed, workplace: Workplace, untrained: bytes) -> None:
    trained, _ = run_stages(make_trial(), make_trial().stages(), workplace)
    with pytest.raises(ArtifactMismatch):
        measure(untrained, trained, workplace)


@pytest.mark.parametrize("damage", [b"", b"half", b"<html>", None])
def test_another_file_in_the_place_of_ours_is_written_again(
    completed: Completed,
    workplace: Workplace,
    artifact: Path,
    untrained: bytes,
    tmp_path: Path,
    damage: bytes | None,
) -> None:
    (tmp_path / "model.mbq").write_bytes(untrained if damage is None else damage)
    again = run_pipeline(make_trial(), workplace, tmp_path / "model.mbq")
    assert again.artifact_sha256 == completed.artifact_sha256
    assert (tmp_path / "model.mbq").read_bytes() == artifact.read_bytes()


def test_a_failure_names_its_stage(workplace: Workplace, tmp_path: Path) -> None:
    explosive = {**SCHEDULE, "lr": 100.0, "epochs": 3, "momentum": 0.99}
    trial = make_trial(baseline={"kind": "train", "schedule": explosive, "model": {"width": 0.1, "name": "vgg16"}})
    for _ in range(2):  # the second time from memory
        with pytest.raises(Diverged) as caught:
            run_pipeline(trial, workplace, tmp_path / "model.mbq")
        assert caught.value.stage == "train"
    assert not (tmp_path / "model.mbq").exists()


def test_trials_do_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    trial = make_trial(baseline={"kind": "train", "schedule": SCHEDULE, "model": {"width": 0.1, "dropout": 0.2}})
    found = []
    for i in range(2):
        torch.manual_seed(i)
        workplace = open_workplace(few_digits(), tmp_path / str(i), cpu=1, gpu=0)
        result, _ = run_stages(trial, trial.stages(), workplace)
        found.append(result)
    assert found[0].metrics == found[1].metrics
    assert all(torch.equal(tensor, found[1].state[name]) for name, tensor in found[0].state.items())


def test_the_first_stage_and_the_teacher_have_threads_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float | None, int]] = []

    def noting(config: StageConfig, context: StageContext) -> StageResult:
        seen.append((config.kind, config.training.lr if config.training else None, torch.get_num_threads()))
        return run_stage(config, context)

    monkeypatch.setattr(pipeline, "run_stage", noting)
    rates = [{**SCHEDULE, "lr": lr} for lr in (0.01, 0.02, 0.03)]
    trial = make_trial(
        baseline={"kind": "train", "schedule": rates[0], "model": {"width": 0.1}},
        teacher={"kind": "train", "schedule": rates[1], "model": {"width": 0.1}},
        prune=None,
        quantize={"kind": "qat", "schedule": {**rates[2], "distill": {"weight": 0.5}}},
    )
    workplace = open_workplace(few_digits(), tmp_path, cpu=1, gpu=0, first_threads=3)
    run_teacher(trial, workplace)
    run_stages(trial, trial.stages(), workplace)
    assert seen == [("train", 0.02, 3), ("train", 0.01, 3), ("qat", 0.03, 1)]
    assert torch.get_num_threads() == 1


def test_a_teacher_of_whom_nobody_learns_is_not_made(tmp_path: Path) -> None:
    teacher = {"kind": "train", "schedule": SCHEDULE, "model": {"width": 0.1}}
    run_teacher(make_trial(teacher=teacher), open_workplace(few_digits(), tmp_path, cpu=1, gpu=0))
    assert not list(tmp_path.iterdir())


def test_the_onnx_file_of_a_trial_is_measured_beside_the_packed_one(workplace: Workplace, tmp_path: Path) -> None:
    config = make_trial()
    measured = config.model_copy(update={"measure": MeasureConfig(onnx=True)})
    plain = run_pipeline(config, workplace, tmp_path / "plain" / "model.mbq").measurement
    both = run_pipeline(measured, workplace, tmp_path / "both" / "model.mbq").measurement
    assert (plain.onnx_size_bytes, plain.onnx_accuracy, plain.onnx_failure) == (None, None, None)
    assert not (tmp_path / "plain" / "model.onnx").exists()
    assert both.onnx_size_bytes == len((tmp_path / "both" / "model.onnx").read_bytes())
    assert both.onnx_accuracy == pytest.approx(both.accuracy, abs=1 / both.n)
    assert both.onnx_failure is None
    ours = {name: value for name, value in both.model_dump().items() if not name.startswith("onnx_")}
    assert ours == {name: value for name, value in plain.model_dump().items() if not name.startswith("onnx_")}


def test_an_onnx_file_that_computes_something_else_is_a_finding_not_the_end(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.export.onnx import check as onnx_check

    monkeypatch.setattr(onnx_check, "onnx_accuracy", lambda content, images, advance: 0.0)
    config = make_trial().model_copy(update={"measure": MeasureConfig(onnx=True)})
    measurement = run_pipeline(config, workplace, tmp_path / "model.mbq").measurement
    assert measurement.onnx_failure is not None
    assert "the ONNX file has accuracy 0.0000" in measurement.onnx_failure
    assert measurement.onnx_accuracy is None
    assert not (tmp_path / "model.onnx").exists()
    assert measurement.accuracy > 0.5


def test_an_onnx_file_that_cannot_be_written_is_a_finding_too(workplace: Workplace, tmp_path: Path) -> None:
    trial = make_trial()
    scheme = trial.quantize.scheme.model_copy(update={"activation_ranges": "dynamic"})
    quantize = trial.quantize.model_copy(update={"scheme": scheme})
    config = trial.model_copy(update={"measure": MeasureConfig(onnx=True), "quantize": quantize})
    measurement = run_pipeline(config, workplace, tmp_path / "model.mbq").measurement
    assert measurement.onnx_failure is not None
    assert "not written for activations with dynamic ranges" in measurement.onnx_failure
    assert measurement.accuracy > 0.5
