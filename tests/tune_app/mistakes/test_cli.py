"""`tune-app failures` on a real experiment with one trial, and on its files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result
from tests.tune_app.artifacts.test_export import quick_spec
from tests.tune_app.factories import make_experiment
from trainables.data.data_sets import load_data
from trainables.errors import ConfigError, CorruptFile
from trainables.pipeline import run_pipeline
from trainables.stages.workplace import open_workplace
from trainables.storage import StoragePath, replace, storage_path
from tune_app.artifacts.test_split import finalize
from tune_app.cli.failures import folder_name
from tune_app.engine.baseline import make_baseline
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.ledger.test_results import read_held_out
from tune_app.mistakes.analysis import analyze, predictions
from tune_app.mistakes.section import trial_section
from tune_app.mistakes.subject import file_subject, trial_subject
from tune_app.spec.yaml_file import dump_spec

pytestmark = pytest.mark.usefixtures("few_figures")
Cli = Callable[..., Result]
LABEL = "p50_w4_a8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment with one trial."""
    return made_in(tmp_path_factory.mktemp("experiment"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_in(storage: Path) -> ExperimentFolder:
    spec = quick_spec(storage)
    found, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    found.claim(spec)
    make_baseline(spec, data)
    work = Assignment(number=0, config_key="c" * 64, params={"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, seed=0)
    workplace = open_workplace(data, found.stages, cpu=1, gpu=0)
    completed = run_pipeline(spec.base, workplace, found.artifacts / work.trial_id / "model.mbq")
    record = TrialRecord(assignment=work, result=completed, environment={}, started_at="2025-01-02", seconds=1.0)
    Ledger(found.trials).add(record)
    return found


def artifact(folder: ExperimentFolder) -> StoragePath:
    return folder.artifacts / f"{'c' * 16}-full-a1" / "model.mbq"


def stage(folder: ExperimentFolder) -> StoragePath:
    info = read_baseline(folder)
    assert info is not None
    return folder.stages / info.key


def numbers(cli: Cli, *arguments: object) -> dict[str, Any]:
    result = cli("failures", *arguments, "--json")
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


@pytest.mark.parametrize("name", [LABEL, f"{LABEL}@full", "cccc", f"{'c' * 16}-full-a1"])
def test_a_trial_is_compared_with_the_baseline(name: str, folder: ExperimentFolder, cli: Cli) -> None:
    found = numbers(cli, folder.path, name)
    [record], baseline = Ledger(folder.trials).read()[0], read_baseline(folder)
    assert baseline is not None
    assert found["accuracy"] == pytest.approx(record.metrics()["accuracy"])
    assert found["baseline"]["accuracy"] == pytest.approx(baseline.accuracy)
    assert (found["trial_id"], found["images"]) == (record.assignment.trial_id, baseline.n)
    assert found["classes"] == list("0123456789")
    assert found["size_bytes"] == record.metrics()["size_bytes"]


def test_files_go_to_a_folder_with_the_trials_name(folder: ExperimentFolder, cli: Cli, here: Path) -> None:
    result = cli("failures", folder.path, LABEL)
    assert result.code == 0, result.err
    assert result.err == ""
    written = {path.name for path in (here / f"failures-{LABEL}").iterdir()}
    assert {"report.txt", "failures.json", "predictions.parquet", "confusion_normalized.png"} <= written
    assert "images newly wrong" in result.out
    assert f"written to failures-{LABEL}: report.txt" in result.out


def test_json_is_alone_on_standard_output_and_writes_only_where_it_is_told(
    folder: ExperimentFolder, cli: Cli, here: Path
) -> None:
    found = numbers(cli, folder.path, LABEL)
    assert list(here.iterdir()) == []
    assert numbers(cli, folder.path, LABEL, "--output", "there") == found
    assert json.loads((here / "there/failures.json").read_text()) == found


def test_the_baseline_can_be_looked_at_alone(folder: ExperimentFolder, cli: Cli) -> None:
    found = numbers(cli, folder.path, "baseline")
    info = read_baseline(folder)
    assert info is not None
    assert (found["label"], found["baseline"], found["accuracy"]) == ("baseline", None, pytest.approx(info.accuracy))


def test_a_file_in_an_experiments_folder_knows_its_experiment(
    folder: ExperimentFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = numbers(cli, folder.path, LABEL)
    for path in (artifact(folder), Path("model.mbq")):
        found = numbers(cli, path)
        assert (found["experiment"], found["confusion"]) == ("tiny", expected["confusion"])
        assert found["change"] == expected["change"]
        monkeypatch.chdir(str(artifact(folder).parent))
    own = numbers(cli, stage(folder))
    assert own["accuracy"] == own["baseline"]["accuracy"]


def test_a_file_from_elsewhere_is_judged_on_the_experiments_images(
    folder: ExperimentFolder, cli: Cli, here: Path
) -> None:
    shutil.copy(str(artifact(folder)), here / "mine.mbq")
    shutil.copy(str(stage(folder) / "weights.safetensors"), here / "weights.safetensors")
    assert numbers(cli, "mine.mbq", "--experiment", folder.path)["change"] is not None
    weights = numbers(cli, "weights.safetensors", "--experiment", folder.path)
    assert weights["accuracy"] == weights["baseline"]["accuracy"]


def test_a_file_of_no_experiment_is_judged_on_a_data_set(folder: ExperimentFolder, cli: Cli, here: Path) -> None:
    shutil.copy(str(artifact(folder)), here / "mine.mbq")
    found = numbers(cli, "mine.mbq", "--data", "digits")
    assert (found["images"], found["data"], found["experiment"], found["baseline"]) == (144, "digits", None, None)


def test_a_file_is_called_by_its_folder_wherever_the_command_runs(
    folder: ExperimentFolder, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = here / "point" / "inner"
    inner.mkdir(parents=True)
    shutil.copy(str(artifact(folder)), here / "point/model.mbq")
    monkeypatch.chdir(inner)
    result = cli("failures", "../model.mbq", "--data", "digits")
    assert result.code == 0, result.err
    assert [path.name for path in inner.iterdir()] == ["failures-point-model.mbq"]


def test_a_spec_says_which_images_and_whose_weights(folder: ExperimentFolder, cli: Cli, here: Path) -> None:
    (here / "spec.yaml").write_text(dump_spec(folder.read_spec()))
    shutil.copy(str(stage(folder) / "weights.safetensors"), here / "net.safetensors")
    found = numbers(cli, "net.safetensors", "--data", "spec.yaml")
    info = read_baseline(folder)
    assert info is not None
    assert (found["accuracy"], found["images"]) == (pytest.approx(info.accuracy), info.n)


def test_the_test_split_is_never_read(
    folder: ExperimentFolder, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("only finalize reads the test split")

    for name in ("load_test_images", "load_test_set"):
        monkeypatch.setattr(f"trainables.data.data_sets.{name}", refuse)
    assert numbers(cli, folder.path, LABEL)["split"] == "val"
    assert numbers(cli, artifact(folder), "--data", "digits")["split"] == "val"


@pytest.mark.parametrize("name", [LABEL, "baseline"])
def test_the_test_split_is_looked_at_once_it_was_evaluated(
    name: str, folder: ExperimentFolder, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = ExperimentFolder(here / "copy")
    shutil.copytree(str(folder.path), str(copy.path))
    with monkeypatch.context() as patch:
        patch.setattr("trainables.data.data_sets.load_test_set", lambda *_: pytest.fail("it is read"))
        refused = cli("failures", copy.path, name, "--split", "test")
    assert refused.code == ConfigError.exit_code
    whose = "the baseline" if name == "baseline" else name
    assert f"{whose} has no result on the test split, which is read once" in refused.err
    assert f"run `tune-app finalize {copy.path}`" in refused.err
    assert refused.err.count("\n") == 1

    finalize(copy)
    place = copy.baseline_file.parent if name == "baseline" else artifact(copy).parent
    expected = read_held_out(place)
    assert expected is not None
    done = cli("failures", copy.path, name, "--split", "test")
    assert done.code == 0, done.err
    assert f"right on {expected.n} test images of digits" in done.out
    assert "its place in the test split" in (here / f"failures-{name}-test/report.txt").read_text()
    found = json.loads((here / f"failures-{name}-test/failures.json").read_text())
    assert (found["split"], found["images"], found["accuracy"]) == ("test", expected.n, expected.accuracy)
    assert numbers(cli, copy.path, name)["split"] == "val"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["mine.mbq", "--data", "digits", "--split", "test"],
            "--split test is for a trial that finalize has evaluated",
        ),
        (["{exp}"], "is an experiment: name one of its trials too, or `baseline`"),
        (["{exp}", "p99"], f"known: {LABEL}"),
        (["{exp}", LABEL, "--data", "digits"], "are for a file"),
        (["{exp}/artifacts", LABEL], "is no experiment"),
        (["none.mbq", "--data", "digits"], "there is no none.mbq"),
        (["mine.mbq"], "mine.mbq is in no experiment's folder: name its --experiment"),
        (["mine.mbq", "--data", "digits", "--experiment", "{exp}"], "leave --data out"),
        (["mine.mbq", "--experiment", "{exp}", "--root", "x"], "give both"),
        (["mine.mbq", "--data", "digit"], "Did you mean 'digits'?"),
        (["mine.mbq", "--data", "other.yaml"], "other.yaml"),
        (["mine.pt", "--data", "digits"], "does not say whose: name the experiment"),
        (["mine.pt", "--experiment", "{exp}"], "is no file of plain weights"),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_one_line(
    arguments: list[str], message: str, folder: ExperimentFolder, cli: Cli, here: Path
) -> None:
    shutil.copy(str(artifact(folder)), here / "mine.mbq")
    (here / "mine.pt").write_bytes(b"nothing")
    result = cli("failures", *(argument.format(exp=folder.path) for argument in arguments))
    assert result.code == ConfigError.exit_code
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not list(here.glob("failures-*"))


def test_a_network_for_other_images_is_refused(folder: ExperimentFolder, cli: Cli, here: Path) -> None:
    spec = folder.read_spec()
    data = spec.base.data.model_copy(update={"image_size": 12})
    base = spec.base.model_copy(update={"data": data})
    (here / "spec.yaml").write_text(dump_spec(spec.model_copy(update={"base": base})))
    result = cli("failures", artifact(folder), "--data", "spec.yaml")
    assert result.code == ConfigError.exit_code
    assert "takes images of 1 x 8 x 8 in 10 classes, but digits has 1 x 12 x 12" in result.err


def test_a_damaged_artifact_is_refused(folder: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    copy = ExperimentFolder(tmp_path / "copy")
    shutil.copytree(str(folder.path), str(copy.path))
    replace(artifact(copy), b"x")
    result = cli("failures", copy.path, LABEL)
    assert result.code == CorruptFile.exit_code
    assert "is not the file that was measured" in result.err


def test_an_experiment_without_a_baseline_has_none_to_show(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no baseline yet"):
        trial_subject(make_experiment(tmp_path), "baseline")


def test_an_experiment_in_a_bucket_is_analysed_as_one_on_the_disk(folder: ExperimentFolder, bucket: str) -> None:
    copy = ExperimentFolder(storage_path(f"{bucket}/tiny"))
    for path in Path(str(folder.path)).rglob("*"):
        if path.is_file():
            replace(copy.path / path.relative_to(str(folder.path)).as_posix(), path.read_bytes())
    found, expected = (analyze(trial_subject(f, LABEL)) for f in (copy, folder))
    assert found.outcome.matrix.tolist() == expected.outcome.matrix.tolist()
    same = analyze(file_subject(artifact(copy), copy))
    assert same.outcome.matrix.tolist() == expected.outcome.matrix.tolist()


def test_progress_counts_the_predictions_of_both_networks(folder: ExperimentFolder) -> None:
    told: list[int] = []
    subject = trial_subject(folder, LABEL)
    analyze(subject, advance=told.append)
    assert sum(told) == predictions(subject) == 2 * 287


def test_the_section_of_a_trial_is_made_in_one_call(folder: ExperimentFolder) -> None:
    title, content = trial_section(folder, LABEL)
    assert title == f"Errors of {LABEL}"
    assert "newly wrong" in content


@pytest.mark.parametrize(
    ("label", "name"),
    [("p30_w4_a8", "p30_w4_a8"), ("p30_w4_a8@ptq#2", "p30_w4_a8-ptq-2"), ("x=../y/model.mbq", "x=..-y-model.mbq")],
)
def test_a_label_becomes_one_folder(label: str, name: str) -> None:
    assert folder_name(label) == name
