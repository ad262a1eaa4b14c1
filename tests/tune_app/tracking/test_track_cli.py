"""`tune-app track` on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, store_baseline
from tests.tune_app.tracking.experiments import finish, make_tracked
from tests.tune_app.tracking.holes import black_hole
from tests.tune_app.tracking.wandb_files import offline_runs
from trainables.storage import Lock
from tune_app.tracking import wandb_connection
from tune_app.tracking.places import lock_place

Cli = Callable[..., Result]


def test_an_experiment_is_shown_to_the_trackers_of_its_spec(cli: Cli, tmp_path: Path) -> None:
    folder = make_tracked(tmp_path, tracking=[{"kind": "wandb", "mode": "offline"}, "tensorboard"])
    finish(folder)
    done = cli("track", folder.path, "--no-confusion")
    place = tmp_path / "toy" / "tracking"
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "wandb: 1 run (1 new) offline",
        f"  send them with `wandb sync {place / 'wandb'}`, or run this again where W&B has a key",
        f"tensorboard: 1 run (1 new) at {place / 'tensorboard'}",
    ]
    assert {name.rpartition("-")[2] for name in offline_runs(place)} == {"baseline", "a1", "summary"}
    assert "(0 new)" in cli("track", folder.path, "--to", "tensorboard", "--no-confusion").out
    assert "(1 new)" in cli("track", folder.path, "--to", "tensorboard", "--no-confusion", "--again").out


def test_a_tracker_that_the_spec_does_not_name_is_named_by_hand(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    refused = cli("track", folder.path)
    assert (refused.code, refused.err) == (
        2,
        "error: the spec names no tracker: choose one with --to wandb, --to tensorboard or --to mlflow.\n",
    )
    done = cli("track", folder.path, "--to", "wandb", "--mode", "offline", "--json")
    files = str(tmp_path / "toy" / "tracking" / "wandb")
    assert json.loads(done.out) == [{"kind": "wandb", "destination": "offline", "runs": 6, "new": 6, "files": files}]


def test_options_of_the_spec_hold_for_a_tracker_that_is_named(cli: Cli, tmp_path: Path) -> None:
    folder = make_tracked(tmp_path, tracking={"kind": "wandb", "mode": "offline", "project": "mine"})
    finish(folder)
    assert cli("track", folder.path, "--to", "wandb", "--no-confusion").code == 0
    assert {run.project for runs in offline_runs(tmp_path / "toy" / "tracking").values() for run in runs} == {"mine"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "wanb"], "unknown tracker 'wanb'; known: wandb, tensorboard, mlflow; did you mean 'wandb'?"),
        (["--to", "wandb", "--mode", "off"], "--mode is online or offline, but got 'off'."),
        (["--to", "wandb", "--mode", "online"], "set WANDB_API_KEY, or take mode: offline."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cli: Cli, tmp_path: Path, options: list[str], message: str) -> None:
    folder = make_experiment(tmp_path)
    done = cli("track", folder.path, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_server_that_never_answers_ends_the_command(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_connection, "ANSWER_S", 0.2)
    folder = make_experiment(tmp_path)
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "01234567")
        done = cli("track", folder.path, "--to", "wandb")
    assert done.code == 3
    assert done.err == (
        f"error: W&B does not answer at {url} (no answer in 0.2 s): "
        "try again later, or write runs to files with --mode offline.\n"
    )


def test_a_search_that_shows_it_already_is_not_disturbed(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    lock = Lock(lock_place(folder, "tensorboard"))
    assert lock.try_acquire()
    done = cli("track", folder.path, "--to", "tensorboard")
    lock.release()
    assert done.code == 5


def test_experiments_without_a_frontier_are_shown_too(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [])
    store_baseline(folder)
    done = cli("track", folder.path, "--to", "wandb", "--mode", "offline")
    assert (done.code, done.out.splitlines()[0]) == (0, "wandb: 0 runs (0 new) offline")


def test_a_folder_that_is_no_experiment_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("track", tmp_path, "--to", "tensorboard").code == 2


def test_what_one_tracker_was_shown_is_said_also_where_the_next_one_refuses(cli: Cli, tmp_path: Path) -> None:
    folder = make_tracked(tmp_path, tracking=["tensorboard", {"kind": "mlflow", "uri": "nosuch://store"}])
    finish(folder)
    done = cli("track", folder.path, "--no-confusion")
    assert done.code == 3
    assert done.out == f"tensorboard: 1 run (1 new) at {tmp_path / 'toy' / 'tracking' / 'tensorboard'}\n"
    assert done.err.startswith("error: MLflow does not take the run: ")
