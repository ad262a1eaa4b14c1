"""The study that Optuna reads back is the experiment."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, make_record, make_records
from tests.tune_app.search.test_ladder import make_laddered
from trainables.errors import ConfigError
from tune_app.tracking.optuna_journal import write_journal

Cli = Callable[..., Result]


def load(path: Path, name: str = "toy") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def test_trials_keep_their_parameters_objectives_times_and_reasons(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, constraints=["accuracy >= 0.9"])
    assert write_journal(folder, tmp_path / "study.log") == {"toy": 6}
    study = load(tmp_path / "study.log")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "size_bytes"]
    second, failed = study.trials[1], study.trials[4]
    assert second.params == {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    assert second.values == [0.93, 90_000]
    assert second.user_attrs["label"] == "p30_w4_a8"
    assert second.user_attrs["bops"] == 640 * 90_000
    assert second.datetime_start is not None
    assert second.datetime_start.astimezone(UTC) == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert second.duration is not None
    assert second.duration.total_seconds() == 2
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "Diverged: the loss became NaN")


def test_the_best_trials_are_the_frontier(tmp_path: Path) -> None:
    write_journal(make_experiment(tmp_path), tmp_path / "study.log")
    assert {t.number for t in load(tmp_path / "study.log").best_trials} == {0, 1, 3}


def test_infeasible_trials_are_not_the_best(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, constraints=["accuracy >= 0.9"])
    write_journal(folder, tmp_path / "study.log")
    assert {t.number for t in load(tmp_path / "study.log").best_trials} == {0, 1}


def test_each_rung_is_a_study(tmp_path: Path) -> None:
    laddered = make_laddered(tmp_path)
    cheap = make_record(30, {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}, 0.5, rung="ptq")
    folder = make_experiment(
        tmp_path, [*make_records(), cheap], base=laddered.base, fidelity=laddered.fidelity, name="laddered"
    )
    counts = write_journal(folder, tmp_path / "study.log")
    assert counts == {"laddered": 6, "laddered@ptq": 1}
    assert [t.values for t in load(tmp_path / "study.log", "laddered@ptq").trials] == [[0.5, 100_000]]


def test_values_beside_the_space_and_names_are_carried(tmp_path: Path) -> None:
    points = [
        {"prune_frac": 0.45, "w_bits": 5, "a_bits": 8, "importance": "l1"},
        {"prune_frac": 0.0, "w_bits": 16, "a_bits": 8},
    ]
    records = [make_record(i, point) for i, point in enumerate(points)]  # type: ignore[arg-type]
    write_journal(make_experiment(tmp_path, records, tables=False), tmp_path / "study.log")
    assert [t.params for t in load(tmp_path / "study.log").trials] == points


@pytest.mark.parametrize("records", [[], [make_record(0, {"w_bits": 2}, state="failed")]], ids=["empty", "failures"])
def test_an_experiment_without_results_is_a_study_too(records: list[Any], tmp_path: Path) -> None:
    write_journal(make_experiment(tmp_path, records, tables=False), tmp_path / "study.log")
    assert [t.state for t in load(tmp_path / "study.log").trials] == [TrialState.FAIL] * len(records)


@pytest.mark.parametrize("content", ["mine", "", "[1]", '{"user_attr": {"written_by_tune_app_of": "other"}}'])
def test_a_file_of_somebody_else_is_kept(content: str, tmp_path: Path) -> None:
    (tmp_path / "study.log").write_text(content)
    with pytest.raises(ConfigError, match=r"is not what this command wrote, .*: name a new file"):
        write_journal(make_experiment(tmp_path), tmp_path / "study.log")
    assert (tmp_path / "study.log").read_text() == content


def test_the_same_command_twice_writes_the_study_again(tmp_path: Path) -> None:
    folder, path = make_experiment(tmp_path), tmp_path / "study.log"
    assert write_journal(folder, path) == write_journal(folder, path) == {"toy": 6}
    assert len(load(path).trials) == 6
    study = load(path)
    study.add_trial(create_trial(values=[0.5, 1.0]))
    with pytest.raises(ConfigError, match="somebody has added to it"):
        write_journal(folder, path)
    assert len(load(path).trials) == 7


def test_optuna_dashboard_shows_all_objectives(cli: Cli, tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    folder = make_experiment(tmp_path)
    done = cli("optuna", folder.path, "--output", tmp_path / "study.log")
    assert (done.code, done.out.splitlines()) == (
        0,
        ["study toy: 6 trials", f"optuna-dashboard {tmp_path / 'study.log'}"],
    )
    app = dashboard.wsgi(JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))

    def get(path: str) -> Any:
        head: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        body = b"".join(app(environ, lambda status, headers, exc=None: head.append(status)))
        assert head == ["200 OK"]
        return json.loads(body)

    [study] = get("/api/studies")["study_summaries"]
    assert study["study_name"] == "toy"
    detail = get(f"/api/studies/{study['study_id']}")
    assert (detail["directions"], detail["objective_names"]) == (["maximize", "minimize"], ["accuracy", "size_bytes"])
    assert len(detail["trials"]) == 6
