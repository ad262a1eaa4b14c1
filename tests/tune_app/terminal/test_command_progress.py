"""Every command that may take longer shows on a terminal what it does and the time left, and in a log nothing."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import tune_app.cli.main  # noqa: F401  (a command that is imported later would keep the console of a test)
from tests.conftest import Result
from tests.tune_app.real import label_of, make_real_experiment
from tune_app.ledger.folder import ExperimentFolder
from tune_app.terminal import progress
from tune_app.terminal.progress import Verbosity, set_verbosity, verbosity

pytestmark = pytest.mark.usefixtures("few_figures")
Cli = Callable[..., Result]
COMMANDS = {
    "plan {spec}": ["reading trials", "counting stages, points"],
    "frontier {exp}": ["reading trials"],
    "frontier {exp} --trace --json": ["reading trials"],
    "pick {exp} --json": ["reading trials"],
    "summary {exp} --yaml": ["reading trials"],
    "plot {exp} --output {out}/a.png": ["reading trials"],
    "verify {exp} --evaluate --json": ["reading trials", "verifying trials"],
    "finalize {exp}": ["reading trials", "evaluating on the test split"],
    "report {exp} --output {out}/a.html": ["report"],
    "failures {exp} {trial} --output {out}/f": ["predictions", "figures"],
    "export {exp} {trial} --output {out}/e --onnx": ["reading trials", "checking the ONNX file, images"],
    "latency {exp} {trial} --runs 2 --warmup 1": ["writing ONNX files", "timing 2 networks, images"],
    "reproduce {exp} {trial} --output {out}/r": ["reading trials", "training {trial} again, epochs"],
    "cache gc {exp} --max-bytes 1KB": ["reading trials", "removing stages"],
    "optuna {exp} --output {out}/o.log": ["reading trials", "writing tiny"],
    "track {exp} --to tensorboard --json": ["showing runs", "confusion matrix of the frontier's knee, images"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    return make_real_experiment(tmp_path_factory.mktemp("progress"))


@pytest.fixture
def folder(made: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy, which a test may change, with a stage that nobody needs."""
    shutil.copytree(str(made.path), tmp_path / "tiny")
    stages = tmp_path / "tiny" / "stages"
    ptq = next(s for s in stages.glob("*/stage.json") if '"kind": "ptq"' in s.read_text())
    shutil.copytree(ptq.parent, stages / ("0" * 64))
    return ExperimentFolder(tmp_path / "tiny")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error of a terminal that shows every bar, however short."""
    shown = io.StringIO()

    class AtOnce:
        def __init__(self, seconds: float, start: Callable[[], None]) -> None:
            self.start = start

        def cancel(self) -> None: ...
        def join(self) -> None: ...

    monkeypatch.setattr(progress.threading, "Timer", AtOnce)  # type: ignore[attr-defined]
    monkeypatch.setattr(
        progress,
        "console",
        lambda: Console(file=shown, force_terminal=True, width=120, quiet=verbosity() is Verbosity.QUIET),
    )
    return shown


def words_of(command: str, folder: ExperimentFolder) -> list[str]:
    fields = {"exp": folder.path, "spec": folder.spec_file, "out": folder.path.parent, "trial": label_of(folder)}
    return command.format(**fields).split()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c.replace("cache ", "cache-").split()[:1]))
def test_a_terminal_shows_what_goes_on_and_the_time_left(
    command: str, folder: ExperimentFolder, cli: Cli, terminal: io.StringIO
) -> None:
    done = cli(*words_of(command, folder))
    assert done.code == 0, done.err
    set_verbosity(Verbosity.QUIET)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines()
    for what in COMMANDS[command]:
        text = what.format(trial=label_of(folder))
        assert [line for line in lines if text in line and re.search(r"\d+/\d+ .*left", line)], (text, lines)
    assert " left" not in done.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c.replace("cache ", "cache-").split()[:1]))
def test_a_log_shows_no_bar(command: str, folder: ExperimentFolder, cli: Cli) -> None:
    done = cli(*words_of(command, folder))
    set_verbosity(Verbosity.QUIET)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
