"""Export and latency of a trial that was made without a cluster."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.conftest import Result
from tests.specs import tiny_spec
from tests.tune_app.factories import make_experiment, make_record
from tests.tune_app.search.test_ladder import make_laddered
from trainables.config import TrialConfig, sealed
from trainables.data.data_sets import load_data
from trainables.errors import ArtifactMismatch, ConfigError, CorruptFile
from trainables.export.onnx import check as onnx_check
from trainables.pipeline import run_pipeline
from trainables.stages.workplace import open_workplace
from trainables.storage import sha256
from tune_app.artifacts.export import export_onnx, export_trial, folder_name
from tune_app.artifacts.latency import measure_trials
from tune_app.engine.baseline import make_baseline
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.ledger.reading import find_trial
from tune_app.spec.experiment import ExperimentSpec

Cli = Callable[..., Result]
LABEL = "p50_w4_a8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment with one trial."""
    spec = quick_spec(tmp_path_factory.mktemp("experiment"))
    found, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    found.claim(spec)
    make_baseline(spec, data)
    assignment = Assignment(number=0, config_key="c" * 64, params={"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, seed=0)
    workplace = open_workplace(data, found.stages, cpu=1, gpu=0)
    completed = run_pipeline(spec.base, workplace, found.artifacts / assignment.trial_id / "model.mbq")
    record = TrialRecord(
        assignment=assignment, result=completed, environment={}, started_at="2025-01-02T03:04:05+00:00", seconds=1.0
    )
    Ledger(found.trials).add(record)
    return found


def quick_spec(storage: Path) -> ExperimentSpec:
    spec = tiny_spec(storage)
    base = spec.base.model_dump()
    base["prune"] = {**base["prune"], "prune_frac": 0.5, "round_to": 1}
    base["prune"]["fine_tune"]["epochs"] = 1
    base["quantize"] = {"kind": "ptq", "scheme": {"w_bits": 4}, "bn_images": 256}
    return spec.model_copy(update={"base": TrialConfig.model_validate(base)})


def test_a_point_without_a_rung_means_its_first_run(tmp_path: Path) -> None:
    params = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    records = [make_record(i, params, repeat=i) for i in range(3)]
    found = make_experiment(tmp_path, records)
    for name, expected in (("p30_w4_a8", 0), ("p30_w4_a8@full", 0), ("p30_w4_a8#2", 1), ("p30_w4_a8@full#3", 2)):
        assert find_trial(found, name) == records[expected]


def test_every_label_is_a_name_of_its_trial_alone(tmp_path: Path) -> None:
    long = {"prune_frac": 0.25, "w_bits.depthwise": 8, "w_bits.projection": 4}
    points = [{"w_bits": 4, "a_bits": 8}, {"w_bits": 2, "a_bits": 8}, long]
    records = [
        make_record(10 * i + repeat + 5 * (rung == "ptq"), point, rung=rung, repeat=repeat)
        for i, point in enumerate(points)
        for rung, repeat in (("ptq", 0), ("full", 0), ("full", 1))
        if (i, rung) != (1, "full")  # this point got no further
    ]
    laddered = make_laddered(tmp_path)
    found = make_experiment(tmp_path, records, base=laddered.base, fidelity=laddered.fidelity)
    for record in records:
        assert find_trial(found, record.assignment.label) == record
    assert [r.assignment.label for r in records[:3]] == ["w4_a8@ptq", "w4_a8", "w4_a8#2"]
    assert find_trial(found, "w2_a8").assignment.label == "w2_a8@ptq"
    assert find_trial(found, "w2_a8@p…").assignment.label == "w2_a8@ptq"
    with pytest.raises(ConfigError, match=r"fits .*-full-a1, .*-full-a1, .*-ptq-a1: give one of them"):
        find_trial(found, "p25_w_bits.depthwise=8_w_b…")
    with pytest.raises(ConfigError, match=r"did you mean 'w4_a8'\?$"):
        find_trial(found, "w4_b8")


def test_of_many_trials_a_few_are_named(tmp_path: Path) -> None:
    found = make_experiment(tmp_path, [make_record(i, {"w_bits": i}) for i in range(12)], space={"w_bits": [2, 4]})
    with pytest.raises(ConfigError, match=r"known: w0, w1, w2, w3, w4, w5, w6, w7 and 4 more\.$"):
        find_trial(found, "nothing like it")


def test_onnx_is_written_beside_the_packed_file(folder: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    result = cli("export", folder.path, LABEL, "--output", tmp_path / "out", "--onnx")
    assert result.code == 0, result.err
    content, packed = ((tmp_path / "out" / name).read_bytes() for name in ("model.onnx", "model.mbq"))
    [entry] = onnx.load_from_string(content).metadata_props
    assert json.loads(entry.value)["packed_sha256"] == sha256(packed)
    [said] = re.findall(rf"model.onnx: {len(content):,} bytes, accuracy ([\d.]+) % on the validation", result.out)
    metrics = find_trial(folder, LABEL).metrics()
    assert float(said) == pytest.approx(100 * metrics["accuracy"], abs=200 / metrics["n"] + 0.01)


def test_without_the_option_there_is_no_onnx_file(folder: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    assert cli("export", folder.path, LABEL, "--output", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.mbq", "card.json"}


@pytest.mark.parametrize("name", [LABEL, f"{LABEL}@full", "p50_w4…", "c" * 5, f"{'c' * 16}-full-a1"])
def test_the_folder_is_called_like_the_trial_however_it_was_named(
    name: str, folder: ExperimentFolder, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("export", folder.path, name).out.startswith(f"{LABEL}/model.mbq: ")
    assert {path.name for path in tmp_path.iterdir()} == {LABEL}


def test_a_label_that_makes_no_name_of_a_folder_gives_way_to_the_id() -> None:
    short, many = make_record(0, {"w_bits": 4}, repeat=1), make_record(1, {f"w_bits.{i}": 4 for i in range(12)})
    path = make_record(2, {"recipe": "a/b"})
    assert [folder_name(r) for r in (short, many, path)] == [
        "w4#2",
        many.assignment.trial_id,
        path.assignment.trial_id,
    ]


@pytest.mark.parametrize("name", ["model.mbq", "card.json", "model.onnx"])
@pytest.mark.parametrize("options", [(), ("--onnx",)])
def test_files_of_another_trial_are_not_overwritten(
    name: str, options: tuple[str, ...], folder: ExperimentFolder, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("another trial's")
    result = cli("export", folder.path, LABEL, "--output", tmp_path / "out", *options)
    assert result.code == 2
    assert f"out holds {name} of something else than {LABEL} ({'c' * 16}-full-a1): name another folder" in result.err
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [(name, "another trial's")]


@pytest.mark.parametrize("lost", ["model.mbq", "card.json"])
def test_an_export_of_the_same_file_is_made_whole_again(
    lost: str, folder: ExperimentFolder, cli: Cli, tmp_path: Path
) -> None:
    command = ("export", folder.path, LABEL, "--output", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli(*command).code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / lost).write_bytes(b"")
    assert cli(*command).code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole
    assert whole["notes.txt"] == b"mine"


def test_a_file_that_computes_something_else_is_not_left_behind(
    folder: ExperimentFolder, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("export", folder.path, LABEL, "--output", tmp_path / "out", "--onnx").code == 0
    assert (tmp_path / "out" / "model.onnx").exists()
    monkeypatch.setattr(onnx_check, "onnx_accuracy", lambda content, images, advance: 0.5)
    result = cli("export", folder.path, LABEL, "--output", tmp_path / "out", "--onnx")
    assert result.code == ArtifactMismatch.exit_code == 6
    assert "the ONNX file has accuracy 0.5000, the packed file" in result.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.mbq", "card.json"}


def test_another_data_set_is_refused(folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = find_trial(folder, LABEL)
    export_trial(folder, record, tmp_path / "out")
    baseline = read_baseline(folder)
    assert baseline is not None
    elsewhere = tmp_path / "baseline.json"
    elsewhere.write_bytes(sealed(baseline.model_copy(update={"fingerprint": "0" * 64})))
    monkeypatch.setattr(folder, "baseline_file", elsewhere)
    with pytest.raises(ConfigError, match="the data set is not the one"):
        export_onnx(folder, record, tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_latency_compares_trials_with_the_baseline(folder: ExperimentFolder, cli: Cli) -> None:
    options = ("--runs", 2, "--warmup", 1, "--batch", 1, "--batch", 3)
    result = cli("latency", folder.path, LABEL, *options)
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines()]
    assert [line[-6] for line in lines if line[:2] == ["baseline", "fp32"]] == ["1", "3"]
    assert [line[1] for line in lines if line[:1] == [LABEL]] == ["1", "3"]
    assert "Do not compare figures of two calls." in result.out
    assert lines[0] == ["network", "batch", "onnx_size_bytes", "min", "ms", "median", "ms", "p90", "ms", "speedup"]
    found = json.loads(cli("latency", folder.path, LABEL, *options, "--json").out)
    assert all(row["onnx_size_bytes"] > 0 for row in found["rows"])
    assert [(row["name"], row["batch"], row["runs"]) for row in found["rows"]] == [
        (name, batch, 2) for batch in (1, 3) for name in ("baseline fp32", LABEL)
    ]


def test_latency_of_an_unknown_trial_is_refused(folder: ExperimentFolder, cli: Cli) -> None:
    result = cli("latency", folder.path, LABEL, "p99_w1_a1")
    assert result.code == 2
    assert LABEL in result.err


def test_latency_needs_a_baseline(folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "baseline_file", tmp_path / "none.json")
    with pytest.raises(ConfigError, match="no baseline yet"):
        measure_trials(folder, [LABEL], batches=[1], runs=1, warmup=1)


def test_latency_of_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile):
        measure_trials(make_experiment(tmp_path), ["p30_w4_a8"], batches=[1], runs=1, warmup=1)
