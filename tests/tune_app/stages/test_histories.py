"""Histories of stages: what is read of them, and what counts as none."""

from pathlib import Path

import pytest

from tests.tune_app.factories import make_experiment
from tests.tune_app.report.factories import write_stage
from trainables.storage import StoragePath, remove_tree
from tune_app.stages.histories import finished_histories, finished_history

KEYS = ("0" * 64, "1" * 64)


def test_many_are_read_as_each_alone(storage: StoragePath) -> None:
    folder = make_experiment(storage, [], tables=False)
    write_stage(folder, KEYS[0], "train", [0.5, 0.75])
    write_stage(folder, KEYS[1], "ptq", [])
    found = finished_histories(folder.stages, [*KEYS, "f" * 64, KEYS[0]])
    assert {key: [row["val_accuracy"] for row in rows] for key, rows in found.items()} == {KEYS[0]: [0.5, 0.75]}
    assert finished_history(folder.stages / KEYS[0]) == found[KEYS[0]]
    assert finished_history(folder.stages / KEYS[1]) == []
    assert finished_history(folder.stages / ("f" * 64)) is None


@pytest.mark.parametrize("content", ["", "[]", "null", '{"sha256": 1}', '{"sha256": 1, "history": []}'])
def test_a_damaged_description_is_an_absent_one(content: str, tmp_path: Path) -> None:
    (tmp_path / KEYS[0]).mkdir()
    (tmp_path / KEYS[0] / "stage.json").write_text(content)
    assert finished_histories(tmp_path, KEYS) == {}
    assert finished_history(tmp_path / KEYS[0]) is None


def test_a_stage_that_finishes_later_is_found_then(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [], tables=False)
    assert finished_history(folder.stages / KEYS[0]) is None
    write_stage(folder, KEYS[0], "train", [0.5])
    assert finished_history(folder.stages / KEYS[0])
    remove_tree(folder.stages / KEYS[0])
    assert finished_history(folder.stages / KEYS[0])  # kept in memory
