"""Trackers beside a search: their processes show what happens, and hold nothing up."""

import io
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from tests.stored import tree
from tests.tune_app.tracking.experiments import begin, finish, make_tracked, train, work_of
from tests.tune_app.tracking.holes import black_hole
from tests.tune_app.tracking.wandb_files import offline_runs
from trainables.errors import ConfigError
from trainables.storage import Lock, exists
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import MlflowConfig, TensorBoardConfig, WandbConfig
from tune_app.tracking import beside
from tune_app.tracking.beside import tracked
from tune_app.tracking.places import NEEDS, check_installed, lock_place
from tune_app.tracking.track import track

KEY = "0123456789abcdef" * 2 + "01234567"


@contextmanager
def search(folder: ExperimentFolder) -> Iterator[io.StringIO]:
    """A search without trials of its own; gives what people read of it."""
    lines = io.StringIO()
    with tracked(folder.read_spec(), folder, Console(file=lines, width=1000)):
        yield lines


def children() -> list[psutil.Process]:
    """Processes that show a search to a tracker, and what they started."""
    found = [p for p in psutil.Process().children() if "tune_app.tracking.child" in p.cmdline()]
    return [each for process in found for each in [process, *process.children(recursive=True)]]


def wait_for(holds: Callable[[], Any]) -> None:
    while not holds():
        time.sleep(0.02)


def test_a_search_without_trackers_starts_nothing(tmp_path: Path) -> None:
    with search(make_tracked(tmp_path)) as lines:
        assert children() == []
    assert lines.getvalue() == ""


def test_epochs_and_ends_are_shown_while_the_search_runs(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path, tracking="tensorboard")
    place = tmp_path / "toy" / "tracking" / "tensorboard" / f"toy-{work_of().trial_id}"
    with search(folder) as lines:
        train(folder, work_of(), "train", 1)
        wait_for(place.exists)
        finish(folder)
    assert lines.getvalue() == ""
    assert children() == []
    from tests.tune_app.tracking.test_tensorboard import events

    assert [event.step for event in events(place).Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events(place).Scalars("qat/loss")] == [6, 7, 8, 9]
    assert events(tmp_path / "toy" / "tracking" / "tensorboard" / "toy-summary").Scalars("complete")[-1].value == 1


def test_a_tracker_that_does_not_end_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "CLOSE_S", 0.5)
    folder = make_tracked(tmp_path, tracking="wandb")
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        with search(folder) as lines:
            assert len(children()) == 1
        assert children() == []
    (line,) = lines.getvalue().splitlines()
    assert line == (
        "wandb was not shown everything within 0.5 s of the end: "
        f"`tune-app track {folder.path} --to wandb` shows what is missing"
    )


def test_a_search_whose_wandb_never_answers_is_written_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Path(tempfile.mkdtemp(dir="/tmp"))  # short, as the names of sockets must be
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    folder = make_tracked(tmp_path, tracking="wandb")
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        with search(folder) as lines:
            begin(folder, work_of())
            record = finish(folder)
            wait_for(lines.getvalue)
    (line,) = lines.getvalue().splitlines()
    assert re.fullmatch(
        rf"W&B does not answer at {re.escape(url)} \(no answer in 5 s\); runs are written to .*/tracking/wandb; "
        r"`tune-app track .*/toy --to wandb` shows what is missing",
        line,
    )
    (run,) = offline_runs(tmp_path / "toy" / "tracking")[f"toy-{record.assignment.trial_id}"]
    assert run.steps == list(range(1, 10))
    assert not [name for name, content in tree(folder.path).items() if KEY.encode() in content]
    scratch.rmdir()  # nothing was left there


DRIVER = """
import sys
import time
from rich.console import Console
from trainables.storage import storage_path
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tracking.beside import tracked

folder = ExperimentFolder(storage_path(sys.argv[1]))
with tracked(folder.read_spec(), folder, Console()):
    print("running", flush=True)
    time.sleep(600)
"""


def test_a_tracker_ends_when_its_driver_is_killed(
    tmp_path: Path, start_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    folder = make_tracked(tmp_path, tracking="tensorboard")
    finish(folder)
    driver = start_python("-c", DRIVER, folder.path)
    assert driver.stdout is not None
    driver.stdout.readline()
    (child,) = psutil.Process(driver.pid).children()
    driver.kill()
    child.wait()
    assert exists(folder.tracking / "tensorboard.json")


def test_one_process_at_a_time_shows_an_experiment_to_a_tracker(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path, tracking="tensorboard")
    lock = Lock(lock_place(folder, "tensorboard"))
    with search(folder):
        wait_for(lambda: (lock.holder() or {}).get("pid", os.getpid()) != os.getpid())
        with pytest.raises(LeaseHeld, match="is being shown to tensorboard by the search that runs"):
            track(folder, TensorBoardConfig())
        assert track(folder, WandbConfig(mode="offline")).kind == "wandb"
    assert track(folder, TensorBoardConfig()).kind == "tensorboard"


def test_what_goes_wrong_in_a_tracker_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file where a folder should be")
    folder = make_tracked(tmp_path, tracking={"kind": "tensorboard", "folder": str(tmp_path / "board")})
    finish(folder)
    with search(folder) as lines:
        wait_for(lines.getvalue)
    (line,) = lines.getvalue().splitlines()
    assert line.startswith("tracking by tensorboard ended: ")
    assert line.endswith(f"`tune-app track {folder.path} --to tensorboard` shows what is missing")


def test_a_missing_library_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDS, "mlflow", ("mlflow_that_is_not_there", "tune-app[mlflow]"))
    folder = make_tracked(tmp_path, tracking="mlflow")
    with pytest.raises(ConfigError, match=re.escape("pip install 'tune-app[mlflow]'")), search(folder):
        pytest.fail("it started")


def test_a_folder_that_has_the_name_of_a_library_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow and W&B leave such folders where they ran, and a job's driver looks for modules there."""
    (tmp_path / "no_such_library").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(NEEDS, "mlflow", ("no_such_library", "tune-app[mlflow]"))
    with pytest.raises(ConfigError, match=r"needs no_such_library, which is not installed: pip install 'tune-app\[ml"):
        check_installed(MlflowConfig())
