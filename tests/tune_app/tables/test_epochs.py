"""Learning curves as data: each stage once, whoever shares it, on the terminal and in files."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_baseline_info, make_experiment, make_record, store_baseline
from tests.tune_app.tracking.experiments import EPOCHS, POINT, finish, keys_of, make_tracked, publish, work_of
from trainables.config import digest
from trainables.errors import ConfigError
from trainables.results import StageRun
from trainables.storage import StoragePath, remove_tree, replace, replace_json
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, Params, TrialRecord
from tune_app.tables.epochs import SCHEMA, epoch_frame, stage_uses

Cli = Callable[..., Result]
OTHER: Params = {"prune_frac": 0.5, "w_bits": 2, "a_bits": 8}
UNPRUNED: Params = {"prune_frac": 0, "w_bits": 8, "a_bits": 8}


def make(storage: StoragePath, *points: Params) -> ExperimentFolder:
    """Trials with the stages that the pipeline would have noted, in `make_tracked`'s schedule."""
    folder = make_tracked(storage)
    for number, params in enumerate(points):
        add(folder, make_record(number, params))
    return folder


def add(folder: ExperimentFolder, record: TrialRecord, *, histories: bool = True) -> None:
    keys = keys_of(folder, record.assignment)
    stages = [StageRun(kind=kind, key=key, seconds=1.0, cached=False) for kind, key in keys.items()]
    record = record.model_copy(update={"result": record.result.model_copy(update={"stages": stages})})
    assert Ledger(folder.trials).add(record)
    info = make_baseline_info().model_copy(update={"key": keys["train"]})
    replace(folder.baseline_file, info.model_dump_json().encode())
    for kind in keys if histories else ():
        publish(folder, record.assignment, kind)


def write_history(folder: ExperimentFolder, key: str, rows: list[dict[str, Any]]) -> None:
    body = {"kind": "any", "history": rows}
    remove_tree(folder.stages / key)
    replace_json(folder.stages / key / "stage.json", {**body, "sha256": digest(body)})


def test_a_stage_that_trials_share_is_there_once(storage: StoragePath) -> None:
    frame = epoch_frame(make(storage, POINT, OTHER, UNPRUNED).path)
    stages = frame.groupby("stage_key", sort=False).first()
    assert list(stages.stage) == ["train", "channel_prune", "qat", "qat", "qat"]
    assert list(stages.trials) == [3, 2, 1, 1, 1]
    assert list(stages.label) == ["p50_w4_a8"] * 3 + ["p50_w2_a8", "p0_w8_a8"]
    assert len(frame) == EPOCHS["train"] + EPOCHS["channel_prune"] + 3 * EPOCHS["qat"]
    assert not frame.duplicated(["stage_key", "epoch"]).any()


def test_the_chain_of_a_trial_can_be_walked_by_parents(tmp_path: Path) -> None:
    frame = epoch_frame(make(tmp_path, POINT, UNPRUNED).path)
    parents = frame.groupby("stage_key").parent_key.first()
    [last] = frame[(frame.label == "p50_w4_a8") & (frame.stage == "qat")].stage_key.unique()
    chain = [last]
    while pd.notna(parents[chain[-1]]):
        chain.append(parents[chain[-1]])
    kinds = frame.groupby("stage_key").stage.first()
    assert [kinds[key] for key in chain] == ["qat", "channel_prune", "train"]
    [unpruned] = frame[frame.label == "p0_w8_a8"].stage_key.unique()
    assert kinds[parents[unpruned]] == "train"


def test_columns_have_their_types_also_where_nothing_is_known(tmp_path: Path) -> None:
    frame = epoch_frame(make(tmp_path, POINT).path)
    assert list(frame.columns) == list(SCHEMA)
    assert (str(frame.epoch.dtype), str(frame.step.dtype), str(frame.loss.dtype)) == ("Int64", "Int64", "float64")
    assert list(frame[frame.stage == "train"].epoch) == [1, 2, 3]
    assert frame.val_accuracy.tolist()[:3] == pytest.approx([1 / 2, 2 / 3, 3 / 4])


def test_steps_of_pruning_count_on_and_columns_of_others_are_kept(tmp_path: Path) -> None:
    folder = make(tmp_path, POINT)
    key = keys_of(folder, work_of())["channel_prune"]
    rows = [
        {"epoch": e, "step": s, "prune_frac_achieved": s / 4, "loss": 1.0, "own": 7.0} for s in (1, 2) for e in (1, 2)
    ]
    write_history(folder, key, [*rows, {"step": 3, "accuracy_pruned": 0.5, "val_accuracy": 0.5}])
    frame = epoch_frame(folder.path)
    pruned = frame[frame.stage_key == key]
    assert pruned.epoch.tolist() == [1, 2, 3, 4, 5]
    assert pruned.epoch_of_step.tolist() == [1, 2, 1, 2, pd.NA]
    assert pruned.step.tolist() == [1, 1, 2, 2, 3]
    assert pruned.prune_frac_achieved.tolist()[:4] == [0.25, 0.25, 0.5, 0.5]
    assert pruned.own.tolist()[:4] == [7.0] * 4
    assert frame[frame.stage == "qat"].own.isna().all()


def test_a_validation_loss_is_null_in_stages_of_older_versions(cli: Cli, tmp_path: Path) -> None:
    folder = make(tmp_path, POINT)
    assert epoch_frame(folder.path).val_loss.isna().all()
    assert "val loss" not in cli("epochs", folder.path, "p50_w4_a8").out
    key = keys_of(folder, work_of())["channel_prune"]
    write_history(folder, key, [{"epoch": e, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 2.0 / e} for e in (1, 2)])
    frame = epoch_frame(folder.path)
    assert frame[frame.stage_key == key].val_loss.tolist() == [2.0, 1.0]
    assert frame[frame.stage_key != key].val_loss.isna().all()
    lines = [line.split() for line in cli("epochs", folder.path, "p50_w4_a8").out.splitlines()]
    assert lines[0][-3:] == ["validation", "val", "loss"]
    assert [line[-1] for line in lines if line[0] == "channel_prune"] == ["2", "1"]
    assert {line[-1] for line in lines if line[0] in ("train", "qat")} == {"–"}


def test_one_trial_or_the_baseline(tmp_path: Path) -> None:
    folder = make(tmp_path, POINT, OTHER)
    frame = epoch_frame(folder.path, "p50_w2_a8")
    assert frame.groupby("stage", sort=False).size().to_dict() == EPOCHS
    assert frame[frame.stage == "qat"].label.unique().tolist() == ["p50_w2_a8"]
    assert epoch_frame(folder.path, "baseline").stage.tolist() == ["train"] * EPOCHS["train"]
    with pytest.raises(ConfigError, match=r"no trial of .* is called 'p1'"):
        epoch_frame(folder.path, "p1")


def test_the_baseline_has_its_epochs_before_a_trial_has_ended(cli: Cli, tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    publish(folder, work_of(), "train")
    for trial in ("", "baseline"):
        frame = epoch_frame(folder.path, trial)
        assert frame.stage.tolist() == ["train"] * EPOCHS["train"]
        assert (set(frame.trials), frame.trial_id.isna().all(), set(frame.label)) == ({0}, True, {"baseline"})
    assert cli("epochs", folder.path).out.splitlines()[2].split()[:3] == ["train", "baseline", "3"]
    assert len(cli("epochs", folder.path, "baseline").out.splitlines()) == 2 + EPOCHS["train"]


def test_a_trial_that_failed_has_the_epochs_before_its_failure(cli: Cli, tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    add(folder, make_record(0, POINT, state="invalid"), histories=False)
    publish(folder, work_of(), "train")
    done = cli("epochs", folder.path, "p50_w4_a8", "--json")
    assert {row["stage"] for row in json.loads(done.out)} == {"train"}
    assert "no epochs of 2 of 3 stages: they failed, were removed" in done.err


def test_a_teacher_of_its_own_is_told_from_the_baseline(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    kinds = {"t": "train", "b": "train", "p": "channel_prune", "q": "qat"}
    stages = [StageRun(kind=kind, key=key, seconds=1.0, cached=False) for key, kind in kinds.items()]
    taught = record.model_copy(update={"result": record.result.model_copy(update={"stages": stages})})
    uses = stage_uses([taught], baseline_key="b")
    assert {use.key: (use.kind, use.parent) for use in uses.values()} == {
        "t": ("teacher", None),
        "b": ("train", None),
        "p": ("channel_prune", "b"),
        "q": ("qat", "p"),
    }


def test_files_hold_what_the_frame_holds(cli: Cli, tmp_path: Path) -> None:
    folder = make(tmp_path, POINT, OTHER)
    frame = epoch_frame(folder.path)
    done = cli("epochs", folder.path, "--csv")
    assert (done.code, done.err) == (0, "")
    read = pd.read_csv(io.StringIO(done.out))
    assert (list(read.columns), read.epoch.tolist()) == (list(frame.columns), frame.epoch.tolist())
    rows = json.loads(cli("epochs", folder.path, "--json").out)
    assert [row["val_accuracy"] for row in rows] == frame.val_accuracy.tolist()
    assert rows[0]["step"] is None
    target = tmp_path / "epochs.parquet"
    assert cli("epochs", folder.path, "--parquet", target).out == f"{len(frame)} rows written to {target}\n"
    table = pq.read_table(target)
    assert table["stage_key"].to_pylist() == frame.stage_key.tolist()
    assert str(table.schema.field("step").type) == "int64"


def test_people_read_a_line_for_each_stage_and_of_a_trial_each_epoch(cli: Cli, tmp_path: Path) -> None:
    folder = make(tmp_path, POINT, OTHER)
    lines = [line.split() for line in cli("epochs", folder.path).out.splitlines()]
    assert lines[0] == ["stage", "of", "epochs", "first", "best", "last", "s"]
    assert lines[2][:10] == ["train", "p50_w4_a8", "and", "1", "other", "3", "50.00", "%", "75.00", "%"]
    assert len(lines) == 2 + 4
    *lines, measured, packed = (line.split() for line in cli("epochs", folder.path, "p50_w4_a8").out.splitlines())
    assert lines[0] == ["stage", "epoch", "lr", "loss", "validation"]
    assert lines[2] == ["train", "1", "0.1", "1", "50.00", "%"]
    assert len(lines) == 2 + sum(EPOCHS.values())
    assert measured == ["batch", "norm", "measured", "again", "–", "–", "–", "90.00", "%"]
    assert packed == ["packed", "and", "decoded", "–", "–", "–", "90.00", "%"]
    assert len(cli("epochs", folder.path, "baseline").out.splitlines()) == 2 + EPOCHS["train"]


def test_without_a_finished_stage_there_is_nothing_to_show(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [])
    done = cli("epochs", folder.path)
    assert (done.code, "has no baseline yet" in done.err) == (2, True)
    store_baseline(folder)
    assert "no stage with epochs has finished yet" in cli("epochs", folder.path).out
    assert json.loads(cli("epochs", folder.path, "--json").out) == []
