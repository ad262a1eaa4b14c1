"""The epochs of a trial: in order, counted over all stages, from finished stages and from those in progress."""

import json

import pytest

from tests.tune_app.tracking.experiments import (
    EPOCHS,
    keys_of,
    make_tracked,
    publish,
    rows,
    train,
    work_of,
)
from trainables.storage import StoragePath, read_bytes, remove_tree, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tracking.curves import Curves
from tune_app.tracking.protocol import Epoch


def epochs(folder: ExperimentFolder) -> list[Epoch]:
    curves = Curves(folder, folder.read_spec())
    return curves.of(work_of(), curves.started())


def shape(found: list[Epoch]) -> list[tuple[int, str, float]]:
    """Step, stage, and epoch within the stage."""
    names = [next(name for name in epoch.values if name.endswith("/epoch")) for epoch in found]
    return [(epoch.step, name[:-6], epoch.values[name]) for epoch, name in zip(found, names, strict=True)]


ALL = [
    *((i, "train", float(i)) for i in (1, 2, 3)),
    *((3 + i, "channel_prune", float(i)) for i in (1, 2)),
    *((5 + i, "qat", float(i)) for i in (1, 2, 3, 4)),
]


def test_the_epochs_of_all_stages_are_counted_in_one_row(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    for kind in EPOCHS:
        publish(folder, work_of(), kind)
    found = epochs(folder)
    assert shape(found) == ALL
    assert found[6].values == {"qat/epoch": 2, "qat/lr": 0.1, "qat/loss": 0.5, "qat/val_accuracy": 1 - 1 / 3}


def test_the_loss_on_validation_images_is_shown_where_it_is_known(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train", [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "val_loss": 0.5}])
    first, second = epochs(folder)
    assert "train/val_loss" not in first.values
    assert second.values["train/val_loss"] == 0.5


def test_a_stage_in_progress_shows_the_epochs_that_it_has_saved(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train")
    assert shape(epochs(folder)) == ALL[:3]
    train(folder, work_of(), "channel_prune", 1)
    assert shape(epochs(folder)) == ALL[:4]
    train(folder, work_of(), "channel_prune", 2)
    assert shape(epochs(folder)) == ALL[:5]


def test_the_training_runs_inside_a_stage_come_one_after_the_other(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train")
    publish(folder, work_of(), "channel_prune")
    train(folder, work_of(), "qat", 1, phase=0)
    train(folder, work_of(), "qat", 2, phase=1)
    train(folder, work_of(), "qat", 1)
    found = epochs(folder)
    assert shape(found) == ALL
    assert [epoch.values["qat/loss"] for epoch in found[5:]] == [1, 1, 0.5, 1]


def test_a_stage_that_is_gone_leaves_a_gap(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    for kind in EPOCHS:
        publish(folder, work_of(), kind)
    remove_tree(folder.stages / keys_of(folder, work_of())["channel_prune"])
    assert shape(epochs(folder)) == [*ALL[:3], *ALL[5:]]


def test_before_the_baseline_nothing_is_known(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train")
    remove_tree(folder.baseline_file.parent)
    assert epochs(folder) == []


def test_a_description_that_was_altered_counts_as_none(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train")
    path = folder.stages / keys_of(folder, work_of())["train"] / "stage.json"
    about = json.loads(read_bytes(path))
    replace(path, json.dumps({**about, "history": []}).encode())
    assert epochs(folder) == []


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, b"\x08\0\0\0\0\0\0\0{}      "], ids=["empty", "long", "bare"])
def test_a_checkpoint_that_is_none_shows_nothing(storage: StoragePath, content: bytes) -> None:
    folder = make_tracked(storage)
    place = folder.stages / "progress" / keys_of(folder, work_of())["train"]
    replace(place / f"epoch-000001-{'0' * 64}.safetensors", content)
    assert epochs(folder) == []


def test_a_long_head_is_read_to_its_end(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_app.stages.histories.HEAD_BYTES", 16)
    folder = make_tracked(storage)
    train(folder, work_of(), "train", 2)
    assert shape(epochs(folder)) == ALL[:2]


def test_numbers_that_are_not_finite_are_left_out(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train", [{**rows(1)[0], "note": None}])  # type: ignore[dict-item]
    assert set(epochs(folder)[0].values) == {"train/epoch", "train/lr", "train/loss", "train/val_accuracy"}


def test_a_rung_that_the_spec_has_no_more_has_no_curves(storage: StoragePath) -> None:
    folder = make_tracked(storage)
    publish(folder, work_of(), "train")
    curves = Curves(folder, folder.read_spec())
    assert curves.of(work_of().model_copy(update={"rung": "ptq"}), curves.started()) == []
