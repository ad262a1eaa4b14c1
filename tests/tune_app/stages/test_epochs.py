"""Epochs are counted by the files that stages leave."""

import pytest

from tests.tune_app.factories import make_spec
from trainables.config import (
    BaselineTrain,
    ChannelPrune,
    Distillation,
    PostTrainingQuant,
    QuantAwareTrain,
    Schedule,
    Sparsify,
    StageConfig,
    TrialConfig,
    stage_keys,
    teacher_key,
)
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.storage import StoragePath, publish_folder, replace
from tune_app.stages.epochs import epochs_by_stage, epochs_done, planned_epochs, saved_epochs

THREE = Schedule(epochs=3, lr=0.1)


@pytest.mark.parametrize(
    ("stage", "epochs"),
    [
        (BaselineTrain(schedule=THREE), 3),
        (PostTrainingQuant(), 0),
        (ChannelPrune(fine_tune=THREE, steps=4, step_epochs=2), 3 + 3 * 2),
        (Sparsify(schedule=THREE), 3),
        (Sparsify(schedule=THREE, mode="iterative", steps=5), 15),
        (QuantAwareTrain(kind="qat", schedule=THREE, progressive_bits=(8, 5), progressive_epochs=2), 3 + 2 * 2),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_all_training_runs_of_a_stage_count(stage: StageConfig, epochs: int) -> None:
    assert planned_epochs(stage) == epochs


def save_epochs(progress: SavedEpochs, count: int) -> None:
    for number in range(count):
        progress.save(SavedEpoch({}, [{"epoch": float(n)} for n in range(number + 1)]))


def test_saved_epochs_are_those_of_all_phases(storage: StoragePath) -> None:
    progress = SavedEpochs(storage / "progress" / "a")
    save_epochs(progress.phase(1), 2)
    save_epochs(progress, 4)
    progress.phase(501).save(SavedEpoch({}, []))  # a plan of channels, no epoch
    save_epochs(SavedEpochs(storage / "progress" / "b"), 1)
    replace(storage / "progress" / "c" / "epoch-odd.safetensors", b"")
    assert saved_epochs(storage) == {"a": 6, "b": 1, "c": 0}
    assert saved_epochs(storage / "none") == {}


def test_a_finished_stage_has_all_of_its_epochs_and_others_no_more_than_they_want(storage: StoragePath) -> None:
    publish_folder({"stage.json": b"{}"}, storage / "a", marker="stage.json")
    save_epochs(SavedEpochs(storage / "progress" / "b"), 2)
    save_epochs(SavedEpochs(storage / "progress" / "c"), 5)
    save_epochs(SavedEpochs(storage / "progress" / "foreign"), 9)
    assert epochs_done(storage, {"a": 7, "b": 3, "c": 4, "d": 2}) == 7 + 2 + 4


def test_a_teacher_counts_if_somebody_learns_from_it(storage: StoragePath) -> None:
    base = make_spec(storage).base.model_dump()
    base["teacher"] = {"kind": "train", "schedule": {"epochs": 5, "lr": 0.1}}
    base["prune"]["prune_frac"] = 0.5
    alone = TrialConfig.model_validate(base)
    keys = stage_keys(alone, fingerprint="f")
    assert epochs_by_stage(alone, fingerprint="f") == dict(zip(keys, [1, 1, 0], strict=True))
    base["prune"]["fine_tune"]["distill"] = Distillation().model_dump()
    learning = TrialConfig.model_validate(base)
    assert epochs_by_stage(learning, fingerprint="f")[teacher_key(learning, fingerprint="f")] == 5
