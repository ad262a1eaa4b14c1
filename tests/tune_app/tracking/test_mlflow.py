"""MLflow, read back through its client from an SQLite file."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune_app.factories import make_untrained
from tests.tune_app.tracking.experiments import EPOCHS, finish, make_tracked, png, publish, refuse, train, work_of
from tests.tune_app.tracking.holes import black_hole
from trainables.storage import remove
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import MlflowConfig
from tune_app.tracking import mlflow_tracker
from tune_app.tracking.overview import opened, read_overview
from tune_app.tracking.places import open_tracker
from tune_app.tracking.protocol import ConfusionMatrix, RunInfo, TrackerUnavailable
from tune_app.tracking.track import track

pytestmark = pytest.mark.filterwarnings(
    # Of SQLAlchemy 2.1, about MLflow's tables.
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
)
OTHER = {"prune_frac": 0, "w_bits": 8, "a_bits": 8}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What MLflow would put into the working directory goes to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty store: its tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def make(tmp_path: Path, name: str, store: str) -> tuple[ExperimentFolder, MlflowConfig]:
    return make_tracked(tmp_path, name=name), MlflowConfig(uri=store)


def runs(store: str, experiment: str) -> dict[str, Any]:
    """By the name that we gave it, what MLflow has of each run."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.data.tags["tune_app.run"]: run for run in found}


def history(store: str, run: Any, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    points = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)


def test_a_trial_is_one_run(tmp_path: Path, store: str) -> None:
    folder, config = make(tmp_path, "whole", store)
    record = finish(folder)
    finish(folder, OTHER, 1, state="invalid")
    shown = track(folder, config, confusion=False)
    assert (shown.destination, shown.new) == (store, 2)
    found = runs(store, "whole")
    run = found[f"whole-{record.assignment.trial_id}"]
    assert (run.info.run_name, run.info.status) == ("p50_w4_a8", "FINISHED")
    expected = {"w_bits": "4", "rung": "full", "repeat": "0", "seed": "0", "data.name": "digits"}
    assert run.data.params.items() >= {**expected, "quantize.schedule.lr": "0.1"}.items()
    assert history(store, run, "qat/loss") == [(6, 1), (7, 1 / 2), (8, 1 / 3), (9, 1 / 4)]
    assert run.data.metrics["accuracy"] == 0.9
    assert run.data.tags["artifact"].endswith("model.mbq")
    (failed,) = [run for run in found.values() if run.info.status == "FAILED"]
    assert failed.data.tags["reason"] == "Diverged: the loss became NaN"


def test_a_trial_that_was_refused_after_its_file_was_measured_is_a_failed_run_with_its_numbers(
    tmp_path: Path, store: str
) -> None:
    folder, config = make(tmp_path, "refused", store)
    record = refuse(folder)
    track(folder, config, confusion=False)
    run = runs(store, "refused")[f"refused-{record.assignment.trial_id}"]
    assert (run.info.status, run.data.metrics["accuracy"]) == ("FAILED", 0.1)
    assert run.data.tags.items() >= {"state": "invalid", "reason": "Collapsed: at chance"}.items()
    assert "mlflow.note.content" not in run.data.tags


def test_runs_of_a_placeholder_are_described_as_such(tmp_path: Path, store: str) -> None:
    track(make_untrained(tmp_path, name="placeholder"), MlflowConfig(uri=store), confusion=False)
    found = runs(store, "placeholder").values()
    assert len(found) == 1 + 6 + 1  # the baseline, the trials, the summary
    assert {run.data.tags["mlflow.note.content"] for run in found} == {"untrained baseline: accuracies mean nothing"}


def test_more_parameters_than_a_server_takes_at_once_are_sent_in_parts(tmp_path: Path, store: str) -> None:
    folder, config = make(tmp_path, "many", store)
    tracker, _ = open_tracker(config, folder, fall_back=False)
    params = {f"p{i}": "x" * 10_000 for i in range(201)}
    tracker.open(RunInfo("many-1", "many" * 100, "many", "trial", params)).leave()
    tracker.close()
    [run] = runs(store, "many").values()
    assert run.info.run_name == ("many" * 100)[:250]
    assert len(run.data.params) == 201
    assert set(run.data.params.values()) == {"x" * 500}


def test_the_baseline_is_a_run_of_its_own(tmp_path: Path, store: str) -> None:
    folder, config = make(tmp_path, "based", store)
    publish(folder, work_of(), "train")
    for _ in range(2):
        track(folder, config, confusion=False, again=True)
    run = runs(store, "based")["based-baseline"]
    assert (run.info.run_name, run.info.status, run.data.tags["kind"]) == ("baseline", "FINISHED", "baseline")
    assert [step for step, _ in history(store, run, "train/loss")] == [1, 2, 3]
    assert run.data.metrics["accuracy"] == 0.95


def test_a_run_goes_on_where_the_store_is(tmp_path: Path, store: str) -> None:
    folder, config = make(tmp_path, "resumed", store)
    whole = {"resumed-summary", "resumed-baseline"}
    publish(folder, work_of(), "train")
    train(folder, work_of(), "channel_prune", 1)
    track(folder, config, confusion=False)
    (run,) = (run for name, run in runs(store, "resumed").items() if name not in whole)
    assert run.info.status == "KILLED"
    finish(folder)
    remove(folder.tracking / "mlflow.json")
    track(folder, config, confusion=False)
    (again,) = (run for name, run in runs(store, "resumed").items() if name not in whole)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    steps = [step for kind in EPOCHS for step, _ in history(store, again, f"{kind}/loss")]
    assert steps == list(range(1, 10))


def test_the_overview_has_totals_tables_and_a_page(tmp_path: Path, store: str) -> None:
    from mlflow import MlflowClient

    folder, config = make(tmp_path, "overview", store)
    finish(folder)
    tracker, _ = open_tracker(config, folder, fall_back=False)
    tracker.show(read_overview(folder, confusion=ConfusionMatrix("p50", ("cat", "dog"), ((5, 1), (2, 7)), png())))
    tracker.close()
    run = runs(store, "overview")["overview-summary"]
    assert history(store, run, "frontier_points") == [(1, 1)]
    client = MlflowClient(tracking_uri=store)
    place = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert json.loads((place / "frontier.json").read_text())["label"] == ["p50_w4_a8"]
    matrix = json.loads((place / "confusion_matrix.json").read_text())
    assert matrix == {"label": "p50", "classes": ["cat", "dog"], "counts": [[5, 1], [2, 7]]}
    assert opened((place / "confusion_images.png").read_bytes()).size == (4, 3)
    assert "parcoords" in (place / "parallel_coordinates.html").read_text()


def test_what_may_change_between_runs_changes_in_the_run_of_the_overview_too(tmp_path: Path, store: str) -> None:
    folder, config = make(tmp_path, "changed", store)
    finish(folder)
    for trials in (10, 20, 10):
        folder.store_spec(make_tracked(tmp_path / "other", name="changed", budget={"trials": trials}).read_spec())
        track(folder, config, confusion=False)
        data = runs(store, "changed")["changed-summary"].data
        assert data.tags.get("budget", data.params["budget"]) == str(trials)
    assert (data.params["budget"], data.params["data.name"], "data.name" in data.tags) == ("10", "digits", False)


def test_a_trial_that_ran_again_under_another_number_is_shown_again(tmp_path: Path, store: str) -> None:
    """Its record was lost, and another trial was proposed first."""
    folder, config = make(tmp_path, "numbered", store)
    record = finish(folder)
    track(folder, config, confusion=False)
    remove(folder.trials / f"{record.assignment.trial_id}.json")
    finish(folder, number=3)
    track(folder, config, confusion=False, again=True)
    data = runs(store, "numbered")[f"numbered-{record.assignment.trial_id}"].data
    assert (data.params["number"], data.tags["number"]) == ("0", "3")


def test_without_an_address_the_store_is_a_file_of_the_experiment(tmp_path: Path, store: str) -> None:
    folder, file = make_tracked(tmp_path), tmp_path / "toy" / "tracking" / "mlflow.db"
    open_tracker(MlflowConfig(uri=store), folder, fall_back=False)  # makes the tables
    file.parent.mkdir(exist_ok=True)
    shutil.copy(store.removeprefix("sqlite:///"), file)
    finish(folder)
    shown = track(folder, MlflowConfig(), confusion=False)
    assert shown.destination == f"sqlite:///{file}"
    assert len(runs(shown.destination, "toy")) == 3
    assert not runs(store, "toy")


def test_a_server_that_never_answers_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = make_tracked(tmp_path)
    with black_hole() as url, pytest.raises(TrackerUnavailable, match="MLflow does not take the run"):
        open_tracker(MlflowConfig(uri=url), folder, fall_back=True)


def test_a_password_in_the_address_of_the_environment_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.replace("sqlite:///", "sqlite://me:word@/"))
    folder = make_tracked(tmp_path)
    with pytest.raises(TrackerUnavailable) as caught:
        open_tracker(MlflowConfig(), folder, fall_back=True)
    assert "word" not in str(caught.value)


def test_files_of_a_store_lie_beside_it_wherever_the_search_runs(tmp_path: Path, store: str) -> None:
    """MLflow would put them into the working directory, which for a job is gone with the job."""
    folder, config = make(tmp_path, "beside", store)
    finish(folder)
    track(folder, config, confusion=False)
    place = Path(store.removeprefix("sqlite:///")).parent / "mlflow_artifacts"
    run = runs(store, "beside")["beside-summary"]
    assert run.info.artifact_uri.startswith(place.as_uri())
    assert len(list((place / run.info.run_id).rglob("frontier.json"))) == 1
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:pa/word@host:5432/runs", "postgresql://***@host:5432/runs"),
        ("http://me:p@word@host:5000", "http://***@host:5000"),
        ("postgresql://host/runs?user=me&password=word", "postgresql://host/runs?***"),
        ("postgresql://me:wor?d@host/runs?sslmode=disable", "postgresql://***@host/runs?***"),
        ("http://host:5000", "http://host:5000"),
        ("databricks", "databricks"),
    ],
)
def test_no_part_of_a_password_in_an_address_is_kept_or_shown(
    address: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database's own library reads a password with slashes, and one behind the question mark."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(mlflow_tracker, "_client", lambda *_: SimpleNamespace(get_experiment_by_name=found))
    folder = make_tracked(tmp_path)
    tracker, _ = open_tracker(MlflowConfig(), folder, fall_back=True)
    assert tracker.destination == shown
    monkeypatch.setattr(mlflow_tracker, "_client", refuses)
    with pytest.raises(TrackerUnavailable, match="does not take the run: no such store: ") as caught:
        open_tracker(MlflowConfig(), folder, fall_back=True)
    assert "word" not in str(caught.value)


def found(name: str) -> Any:
    return SimpleNamespace(experiment_id="1")


def refuses(address: str, folder: Path | None) -> Any:
    raise ValueError(f"no such store: {address}")


def test_a_file_that_is_named_from_the_working_directory_is_another_one_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    folder = make_tracked(tmp_path)
    finish(folder)
    open_tracker(MlflowConfig(uri=store), folder, fall_back=False)  # makes the tables
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(store.removeprefix("sqlite:///"), tmp_path / name / "my.db")
        monkeypatch.chdir(tmp_path / name)
        shown = track(folder, MlflowConfig(uri="sqlite:///my.db"), confusion=False)
        assert (shown.destination, shown.new) == (f"sqlite:///{tmp_path / name / 'my.db'}", 1)
        assert len(runs(shown.destination, "toy")) == 3
