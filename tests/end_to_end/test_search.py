"""A real search on Ray, from a spec file to the tables, and what a second run does with it."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from trainables.export.packed import unpack
from trainables.storage import sha256
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.spec.yaml_file import dump_spec
from tune_app.tables.query import frontier_frame

pytestmark = pytest.mark.ray
Cli = Callable[..., Result]


@pytest.fixture
def finished(finished_search: ExperimentFolder) -> ExperimentFolder:
    """The finished search of six points."""
    return finished_search


@pytest.fixture
def copied(finished_search: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy of it that a test may change."""
    copy = ExperimentFolder(tmp_path / "runs" / "tiny")
    shutil.copytree(finished_search.path, copy.path)
    copy.spec_file.write_text(dump_spec(tiny_spec(tmp_path / "runs")))
    return copy


def stage_events(folder: ExperimentFolder) -> pd.DataFrame:
    return pd.DataFrame(json.loads(line) for line in (folder.stages / "log.jsonl").read_text().splitlines())


def test_every_trial_is_a_real_file_that_decodes(finished: ExperimentFolder) -> None:
    records, damaged = Ledger(finished.trials).read()
    assert not damaged
    for record in records:
        assert record.state == "complete", record.reason
        content = (finished.artifacts / record.assignment.trial_id / "model.mbq").read_bytes()
        measurement = record.result.measurement  # type: ignore[union-attr]
        assert len(content) == measurement.size_bytes == sum(measurement.size_breakdown.values())
        assert sha256(content) == record.result.artifact_sha256  # type: ignore[union-attr]
        assert abs(measurement.accuracy - measurement.accuracy_trained) <= 0.001
        assert unpack(content).header.scheme.w_bits == record.assignment.params["w_bits"]


def test_shared_stages_ran_once(finished: ExperimentFolder) -> None:
    events = stage_events(finished)
    done = events[events.event == "finish"].kind.value_counts().to_dict()
    assert done == {"train": 1, "channel_prune": 1, "qat": 6}
    assert (events.event == "start").sum() == 8


def test_the_tables_are_readable_without_this_package(finished: ExperimentFolder) -> None:
    frame = pd.read_parquet(finished.trials_table)
    assert len(frame) == 6
    query = f"SELECT count(*) FROM '{finished.trials_table}' WHERE state = 'complete' AND size_bytes > 0"
    assert duckdb.sql(query).fetchall() == [(6,)]
    assert set(pd.read_parquet(finished.frontier_table).trial_id) == set(frame[frame.on_frontier].trial_id)
    assert not (finished.path / "ray").exists()


def test_the_same_command_again_runs_nothing(finished: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    before = stage_events(finished)
    spec = write_spec(tmp_path / "spec.yaml", finished.read_spec())
    result = cli("run", spec)
    assert result.code == 0, result.err
    assert "6 trials (0 new)" in result.out
    assert stage_events(finished).equals(before)


def test_baseline_of_a_finished_search_is_found(finished: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    result = cli("baseline", write_spec(tmp_path / "spec.yaml", finished.read_spec()))
    assert result.code == 0, result.err
    assert "287 validation images" in result.out
    assert (stage_events(finished).kind == "train").sum() == 2  # one start, one finish


def test_finalize_evaluates_the_test_split_once(copied: ExperimentFolder, cli: Cli) -> None:
    finished = copied
    first = cli("finalize", finished.path)
    assert first.code == 0, first.err
    frame = frontier_frame(finished.path)
    assert frame.test_accuracy.notna().all()
    results = {p: p.stat().st_mtime_ns for p in finished.path.rglob("test.json")}
    assert len(results) == len(frame) + 1
    assert cli("finalize", finished.path).out == first.out
    assert {p: p.stat().st_mtime_ns for p in finished.path.rglob("test.json")} == results


def test_export_writes_the_measured_file(finished: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    label = frontier_frame(finished.path).label.iloc[0]
    result = cli("export", finished.path, label.partition("@")[0], "--output", tmp_path / "out")
    assert result.code == 0, result.err
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert sha256((tmp_path / "out" / "model.mbq").read_bytes()) == card["result"]["artifact_sha256"]


def test_an_altered_artifact_is_refused(copied: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    record = Ledger(copied.trials).read()[0][0]
    path = copied.artifacts / record.assignment.trial_id / "model.mbq"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = cli("export", copied.path, record.assignment.trial_id, "--output", tmp_path / "out")
    assert result.code == 6
    assert "SHA-256" in result.err
    assert not (tmp_path / "out").exists()


def test_more_trials_extend_the_search_and_share_its_stages(copied: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    wider = {"prune_frac": [0.0, 0.5], "w_bits": [3, 4, 6, 8], "a_bits": [8]}
    spec = write_spec(tmp_path / "spec.yaml", tiny_spec(copied.path.parent, space=wider, sampler={"name": "tpe"}))
    result = cli("run", spec, "--trials", "7")
    assert result.code == 0, result.err
    assert "7 trials (1 new)" in result.out
    assert "changed since the last run: " in result.err
    assert "budget.trials: 6 → 7" in result.err
    trace = cli("frontier", copied.path, "--trace", "--json")
    assert trace.code == 0, trace.err
    rows = json.loads(trace.out)
    assert [row["trials"] for row in rows] == list(range(1, 8))
    assert all(a["hypervolume"] <= b["hypervolume"] for a, b in pairwise(rows))
    assert cli("frontier", copied.path, "--trace", "--all").code == 2
    events = stage_events(copied)
    assert events[events.event == "finish"].kind.value_counts().to_dict() == {"train": 1, "channel_prune": 1, "qat": 7}


def test_a_damaged_record_is_quarantined_and_its_trial_is_answered_from_the_cache(
    copied: ExperimentFolder, cli: Cli, tmp_path: Path
) -> None:
    path = min(copied.trials.glob("*.json"))
    before, content = stage_events(copied), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    result = cli("run", write_spec(tmp_path / "spec.yaml", copied.read_spec()))
    assert result.code == 0, result.err
    assert f"trials/quarantine, its trial may run again: {path.name}" in result.err
    assert "6 trials (1 new), 6 complete" in result.out
    assert json.loads(path.read_bytes())["record"]["result"] | {"stages": 0} == json.loads(content)["record"][
        "result"
    ] | {"stages": 0}
    assert stage_events(copied).equals(before)


def test_another_base_is_refused_and_nothing_changes(finished: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    before = finished.spec_file.read_bytes()
    stored = finished.read_spec()
    other = stored.model_copy(update={"base": stored.base.model_copy(update={"seed": 7})})
    result = cli("run", write_spec(tmp_path / "spec.yaml", other))
    assert result.code == 2
    assert "base.seed is 0 there and 7 here" in result.err
    assert finished.spec_file.read_bytes() == before


def test_a_trial_that_no_node_can_hold_is_refused(ray_address: str, cli: Cli, tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path / "runs", resources={"cpu": 1, "gpu": 1})
    result = cli("run", write_spec(tmp_path / "spec.yaml", spec))
    assert result.code == 2
    assert "a trial needs 1 CPU, 1 GPU, but the largest node of the cluster has 0 GPU" in result.err
    assert not spec.folder.exists()


def test_a_missing_data_set_leaves_nothing_behind(ray_address: str, cli: Cli, tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path / "runs")
    data = spec.base.data.model_copy(update={"name": "cifar10", "root": str(tmp_path / "nowhere")})
    spec = spec.model_copy(update={"base": spec.base.model_copy(update={"data": data})})
    result = cli("run", write_spec(tmp_path / "spec.yaml", spec))
    assert result.code == 2
    assert "nowhere" in result.err
    assert "data.root" in result.err
    assert not spec.folder.exists()


def test_rungs_the_own_sampler_and_repeats_work_together_on_ray(ray_address: str, cli: Cli, tmp_path: Path) -> None:
    spec = tiny_spec(
        tmp_path / "runs",
        sampler={"name": "ehvi"},
        fidelity={"rungs": [{"name": "ptq", "qat_epochs": 0}], "batch": 3},
        budget={"trials": 2},
        repeats={"seeds": 2, "min_probability": 0},
    )
    result = cli("run", write_spec(tmp_path / "spec.yaml", spec))
    assert result.code == 0, result.err
    folder = ExperimentFolder(spec.folder)
    frame = pd.read_parquet(folder.trials_table)
    first = frame[frame.repeat == 0]
    assert (first.rung == "full").sum() == 2
    # Before anything has ended a look is all that is bought; later a point may run in full at once.
    assert first.sort_values("number").rung.iloc[0] == "ptq"
    assert (frame.repeat == 1).sum() == 2
    assert set(frame[frame.on_frontier].repeat) == {0}
    assert (frame[frame.rung == "full"].repeats == 2).all()
    assert f"rungs: {(frame.rung == 'ptq').sum()} ptq, 2 full; 2 repeats of full" in result.out
    assert "ptq against full: rank correlation of accuracy" in result.out
    assert frame[frame.rung == "ptq"].accuracy_mean.isna().all()
    events = stage_events(folder)
    finished = events[events.event == "finish"]
    assert finished.key.is_unique
    assert (finished.kind == "train").sum() == 1


def test_a_warm_start_takes_over_what_means_the_same(
    finished: ExperimentFolder, ray_address: str, cli: Cli, tmp_path: Path
) -> None:
    spec = tiny_spec(tmp_path / "runs", name="again", space={"prune_frac": [0.0], "w_bits": [3, 4], "a_bits": [8]})
    spec = spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 2})})
    result = cli("run", write_spec(tmp_path / "spec.yaml", spec), "--warm-start", finished.path)
    assert result.code == 0, result.err
    assert "2 results taken over" in result.err
    assert "2 trials (0 new), 2 complete" in result.out
    assert re.search(r"training: \d+ s, 0 s more saved", result.out)
    assert set(stage_events(ExperimentFolder(spec.folder)).kind) == {"train"}
    records, _ = Ledger(ExperimentFolder(spec.folder).trials).read()
    for record in records:
        path = spec.folder / "artifacts" / record.assignment.trial_id / "model.mbq"
        assert sha256(path.read_bytes()) == record.result.artifact_sha256  # type: ignore[union-attr]


def test_an_experiment_does_not_warm_start_itself(finished: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    result = cli("run", write_spec(tmp_path / "spec.yaml", finished.read_spec()), "--warm-start", finished.path)
    assert result.code == 2
    assert "names this experiment itself" in result.err
