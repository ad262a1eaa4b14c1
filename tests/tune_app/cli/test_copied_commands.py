"""A command that is shown can be copied: what a shell would take apart, or run, is quoted."""

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, make_records, store_baseline, store_files
from trainables.printable import printable
from trainables.storage import remove
from tune_app.errors import Interrupted
from tune_app.ledger.folder import ExperimentFolder
from tune_app.terminal.shell import command
from tune_app.terminal.streams import AS_READ

Cli = Callable[..., Result]
PROGRAMS = ("tune-app", "optuna-dashboard", "wandb")


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    made = store_files(make_experiment(tmp_path / "two words; touch x", make_records()[:4], budget={"trials": 4}))
    store_baseline(made)
    return made


def shown(text: str) -> list[list[str]]:
    """The words of each command in a text, as a shell would read them: in backticks, or the end of a line."""
    found = re.findall(r"`([^`]+)`", text) + re.findall(rf"((?:{'|'.join(PROGRAMS)}) .+)", re.sub("`[^`]+`", "", text))
    return [shlex.split(each) for each in found if each.startswith(PROGRAMS)]


def test_words_come_back_as_they_were() -> None:
    words = ["pick", "a b", "c;d", "$HOME", "it's", "é", "*"]
    assert shlex.split(command(*words)) == ["tune-app", *words]
    assert command("run", Path("demo.yaml"), "--trials", 30) == "tune-app run demo.yaml --trials 30"


@pytest.mark.parametrize("word", ["a\nb", "\x1b[31m 'é' \\", "\udcff", "\x9b $HOME", "\u202e!", "\t%s", "\ud800 \a"])
def test_a_shell_reads_words_that_would_steer_a_terminal(word: str) -> None:
    shown = command("printf-of", word, program="printf").split(" ", 2)[2]
    assert printable(shown) == shown
    assert "\n" not in shown
    read = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True).stdout
    assert read == word.encode("utf-8", AS_READ)


def test_a_path_that_begins_with_a_dash_is_no_option() -> None:
    assert command("run", Path("-q.yaml"), "--trials", -3) == "tune-app run ./-q.yaml --trials -3"


def test_a_picked_point_is_made_again_by_the_shown_command(folder: ExperimentFolder, cli: Cli) -> None:
    made_again = ["tune-app", "reproduce", str(folder.path), "p30_w4_a8"]
    assert shown(cli("pick", folder.path).out) == [made_again]
    assert shlex.split(json.loads(cli("pick", folder.path, "--json").out)["reproduce"]) == made_again


@pytest.mark.parametrize("reads", [["pick"], ["verify", "--all"]], ids=" ".join)
def test_so_is_one_whose_file_is_gone(reads: list[str], folder: ExperimentFolder, cli: Cli) -> None:
    for record in make_records()[:4]:
        remove(folder.packed_file(record.assignment.trial_id))
    done = cli(*reads[:1], folder.path, *reads[1:])
    found = shown(done.out + done.err)
    assert found
    assert all(words[2] == str(folder.path) for words in found), found


def test_a_run_that_misses_a_file_names_two_commands(folder: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    remove(folder.packed_file(make_records()[0].assignment.trial_id))
    done = cli("run", folder.spec_file)
    place = str(folder.path)
    assert shown(done.err) == [["tune-app", "reproduce", place, "p0_w8_a8"], ["tune-app", "verify", place, "--all"]]


def test_the_study_is_shown_by_its_file(folder: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "my study; x.log"
    assert shown(cli("optuna", folder.path, "--output", target).out) == [["optuna-dashboard", str(target)]]


def test_a_run_that_was_stopped_names_its_command(
    folder: ExperimentFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGTERM, of_search=True)

    monkeypatch.setattr("tune_app.run.search.run_search", stopped)
    done = cli("run", folder.spec_file, "--trials", 5)
    assert done.code == 143
    assert shown(done.err) == [["tune-app", "run", str(folder.spec_file), "--trials", "5"]]
