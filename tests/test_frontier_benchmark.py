"""The report of bars: what is chosen by which split, what counts as met, and files that are what it says."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmarks import frontier, sharing
from benchmarks.frontier import Bar
from tests.tune_app.real import make_real_experiment
from tune_app.artifacts.test_split import finalize
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.yaml_file import load_spec
from tune_app.tables.epochs import epoch_frame

FRONT = pd.DataFrame(
    {
        "label": ["large", "lucky", "small"],
        "compression_ratio": [8.0, 20.0, 31.0],
        "size_bytes": [40_000, 16_000, 10_000],
        "accuracy_mean": [0.99, 0.96, 0.95],
        "test_accuracy_mean": [0.98, 0.93, 0.955],
    }
)


@pytest.mark.parametrize(
    ("text", "label", "met"),
    [
        ("0.97:8", "large", True),
        ("0.95:9", "lucky", False),
        ("0.95:30", "small", True),
        ("0.5:32", None, False),
        ("0.97:40000B", "large", True),
        ("0.95:39999B", "lucky", False),
        ("0.5:9999B", None, False),
    ],
)
def test_validation_chooses_and_the_test_split_judges(text: str, label: str | None, met: bool) -> None:
    bar = Bar.parse(text)
    row = bar.choose(FRONT)
    assert (None if row is None else row.label) == label
    assert bar.met(row) is met


@pytest.mark.parametrize(("above", "met"), [(-0.01, True), (0.0, True), (0.005, True), (0.006, False)])
def test_a_bar_rises_and_falls_with_the_float_network_on_the_same_images(above: float, met: bool) -> None:
    bar = Bar.parse("0.95:30")
    assert bar.met(bar.choose(FRONT), above) is met


@pytest.mark.parametrize("source", ["test", "train"])
def test_both_parts_of_the_test_set_are_put_together_by_their_images(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SimpleNamespace(base=SimpleNamespace(data=SimpleNamespace(validation=SimpleNamespace(source=source))))
    folder = SimpleNamespace(existing=lambda path: SimpleNamespace(read_spec=lambda: spec))
    monkeypatch.setattr(frontier, "ExperimentFolder", folder)
    monkeypatch.setattr(frontier, "read_baseline", lambda folder: SimpleNamespace(n=100))
    monkeypatch.setattr(frontier, "tested_baseline", lambda path: SimpleNamespace(n=300))
    found = frontier.whole_test_set("runs/a", FRONT)
    if source == "train":
        assert found is None
    else:
        assert found is not None
        assert found.tolist() == pytest.approx([0.9825, 0.9375, 0.95375])


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    return make_real_experiment(tmp_path_factory.mktemp("bars"))


def test_an_experiment_without_test_results_is_refused(
    experiment: ExperimentFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frontier.main([str(experiment.path), "--output", str(tmp_path)]) == 2
    assert "`tune-app finalize" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_report_holds_the_bars_and_files_that_decode(
    experiment: ExperimentFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finalize(experiment)
    given = [str(experiment.path), "--output", str(tmp_path)]
    assert frontier.main([*given, "--bar", "0.0:1", "--bar", "0.0:1000"]) == 1
    assert "none so small" in capsys.readouterr().out
    assert frontier.main([*given, "--bar", "1.0:1", "--fp32", "0.0"]) == 1
    assert "and 0.00 % on the whole test set" in capsys.readouterr().out
    assert frontier.main([*given, "--bar", "0.0:1"]) == 0
    points = pd.read_parquet(tmp_path / "frontier.parquet")
    assert points.experiment.eq(experiment.path.name).all()
    epochs = epoch_frame(experiment.path)
    assert set(epochs.stage) > {"train"}
    for _, point in points.iterrows():
        own = epochs[(epochs.stage != "train") & (epochs.trial_id == point.trial_id)]
        assert point.val_accuracy.tolist() == own.val_accuracy.tolist()
        assert point.training_s == pytest.approx(own.seconds.sum())
    report = json.loads((tmp_path / "report.json").read_text())
    [name] = report["figures"]["files"]
    assert frontier.damaged_files(report, tmp_path) == []
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert frontier.damaged_files(report, tmp_path) == [name]


KEPT = sorted((Path(frontier.__file__).parent / "results").glob("*/report.json"))


@pytest.mark.skipif(not KEPT, reason="no report is kept")
def test_kept_files_are_what_their_reports_say() -> None:
    assert [frontier.damaged_files(json.loads(path.read_text()), path.parent) for path in KEPT] == [[]] * len(KEPT)


@pytest.mark.parametrize(("at_once", "cpu", "gpu"), [(1, 16, 1.0), (4, 4, 0.25)])
def test_trials_share_a_machine_equally(at_once: int, cpu: int, gpu: float, tmp_path: Path) -> None:
    given = load_spec(Path(sharing.__file__).with_name("sharing.yaml"))
    spec = sharing.shared_among(given, at_once, storage=tmp_path / "here", cpus=16, gpus=1)
    assert (spec.resources.cpu, spec.resources.gpu, spec.max_concurrent_trials) == (cpu, gpu, at_once)
    assert spec.folder.parent == tmp_path / "here"


def test_a_sweep_lasts_from_the_first_start_to_the_last_end() -> None:
    trials = pd.DataFrame(
        {"started_at": ["2026-01-01T00:00:10+00:00", "2026-01-01T00:00:00+00:00"], "seconds": [5.0, 12.5]}
    )
    assert sharing.sweep_s(trials) == 15.0
    page = sharing.report({1: [20.0, 30.0], 2: [10.0, 24.0]}, 8, gpu=True)
    assert "| 2 | 17.0 | 2.1 | 0.65 (0.57–0.73) |" in page
