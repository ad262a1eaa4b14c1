"""Output that nobody can take ends a command with one line; text is UTF-8 whatever the locale says."""

import contextlib
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.tune_app.factories import make_experiment, store_baseline, store_files
from tune_app.ledger.folder import ExperimentFolder

FULL = Path("/dev/full")
"""A file that takes nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    made = store_files(make_experiment(tmp_path_factory.mktemp("x") / "größe"))
    store_baseline(made)
    return made


def shell(line: str, *, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Runs `tune-app` in a line of a shell, in which it is called `$T`."""
    program = f"{sys.executable} -m tune_app"
    known = {**os.environ, "T": program, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(["bash", "-c", line], capture_output=True, env=known, check=False)


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("words", ["summary", "frontier", "frontier --csv", "frontier --json"])
def test_a_full_output_ends_a_command_with_one_line(words: str, folder: ExperimentFolder) -> None:
    verb, *options = words.split()
    done = shell(f"$T {verb} '{folder.path}' {' '.join(options)} >{FULL}")
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (3, 1), said
    assert said.startswith("error: cannot write standard output: No space left on device.")


@pytest.mark.parametrize("words", ["summary", "frontier"])
def test_a_closed_output_ends_a_command_with_one_line(words: str, folder: ExperimentFolder) -> None:
    done = shell(f"$T {words} '{folder.path}' >&-")
    assert (done.returncode, done.stderr) == (
        3,
        b"error: standard output is closed: send it to a file, or to /dev/null.\n",
    )


def test_help_does_so_too() -> None:
    full, closed = shell(f"$T --help >{FULL}"), shell("$T --help >&-")
    assert (full.returncode, closed.returncode) == (3, 3)
    assert b"Traceback" not in full.stderr + closed.stderr


@pytest.mark.parametrize("columns", ["0", "99999999", "-1", "\N{SUPERSCRIPT TWO}", "wide"])
def test_help_fits_where_the_environment_says_no_width(columns: str) -> None:
    done = shell("timeout 60 $T validate --help", env={"COLUMNS": columns, "LINES": columns})
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", ["summary", "frontier --csv"])
def test_a_reader_that_leaves_is_no_error(words: str, folder: ExperimentFolder) -> None:
    verb, *options = words.split()
    done = shell(f"$T {verb} '{folder.path}' {' '.join(options)} | head -c 1; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in {0, 141}
    assert done.stderr == b""


@pytest.mark.parametrize("closed", ["2>&-", f"2>{FULL}"])
def test_an_error_that_cannot_be_told_keeps_its_code(closed: str, tmp_path: Path) -> None:
    done = shell(f"$T summary '{tmp_path}' {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
    ids=["C", "latin-1", "ascii", "cp1252"],
)
def test_text_is_utf_8_whatever_the_locale_says(locale: dict[str, str], folder: ExperimentFolder) -> None:
    done = shell(f"$T pick '{folder.path}'", env=locale)
    assert (done.returncode, done.stderr) == (0, b"")
    [artifact] = [line for line in done.stdout.decode().splitlines() if "artifact" in line]
    assert Path(artifact.split()[1]).is_relative_to(str(folder.path))
    refused = shell(f"$T summary '{folder.path.parent}/gibt es nicht: ß'", env=locale)  # type: ignore[union-attr]
    assert (refused.returncode, "gibt es nicht: ß" in refused.stderr.decode()) == (2, True)


def on_a_terminal(line: str) -> bytes:
    """What `tune-app` in a line of a shell writes to a terminal of 300 columns, on which it is called `$T`."""
    ours, theirs = pty.openpty()
    known = {**os.environ, "T": f"{sys.executable} -m tune_app", "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    known |= {"TERM": "xterm-256color"}
    seen: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := os.read(ours, 65_536):
                seen.append(piece)

    reader = threading.Thread(target=read)
    with subprocess.Popen(["bash", "-c", line], stdout=theirs, stderr=theirs, stdin=theirs, env=known):
        os.close(theirs)
        reader.start()
    reader.join()
    os.close(ours)
    return b"".join(seen)


@pytest.mark.parametrize("words", ["frontier", "pick", "plot --output {}/o.svg"])
def test_the_name_of_a_file_does_not_steer_a_terminal(words: str, folder: ExperimentFolder, tmp_path: Path) -> None:
    named = tmp_path / "red \x1b[31m\x9b31m \udc9b31m bell\a"
    shutil.copytree(str(folder.path), named / "tiny")
    verb, _, options = words.format(shlex.quote(str(named))).partition(" ")
    line = f"$T {verb} {shlex.quote(str(named / 'tiny'))} {options}"
    seen = on_a_terminal(line)
    assert rb"red \x1b[31m\x9b31m \udc9b31m bell\x07" in seen, seen
    assert not any(each in seen for each in (b"\x1b[31m", b"\x9b", b"\a")), seen
    if verb == "plot":  # a pipe gets the name as it is
        assert os.fsdecode(shell(line).stdout) == f"{named}/o.svg\n"


def test_colors_steer_a_terminal_and_nothing_passes_what_was_printed_before() -> None:
    program = (
        "from tune_app.terminal.streams import prepare_streams; from rich.console import Console; prepare_streams(); "
        "print('one', end=' '); Console().print('[bold]two[/]', end=' '); print('three', end=' '); Console().print(4)"
    )
    seen = on_a_terminal(f"{sys.executable} -c {shlex.quote(program)}")
    assert re.fullmatch(rb"one \x1b\[1mtwo\x1b\[0m three \x1b\[1;36m4\x1b\[0m\r\n", seen), seen
