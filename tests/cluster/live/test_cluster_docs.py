"""docs/cluster.md says what is true: what it marks as run runs, in its order."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from tests.cluster.live.conftest import Shown
from tests.conftest import Result
from tune_app.cli import app
from tune_app.spec_file import load_spec

Cli = Callable[..., Result]
ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/cluster.md").read_text()


class Block(NamedTuple):
    """A fenced block with the heading above it; the mark of a command block is its first line."""

    heading: str
    language: str
    mark: str
    text: str


def blocks() -> Iterator[Block]:
    heading = ""
    for line, language, text in re.findall(r"^(#+ [^\n]*)$|^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S):
        heading = line.lstrip("# ") or heading
        if language == "bash":
            first, _, rest = text.partition("\n")
            yield Block(heading, language, first, rest)
        elif language:
            yield Block(heading, language, "", text)


COMMANDS = [block for block in blocks() if block.language == "bash"]
RUN = [block for block in COMMANDS if block.mark == "# run"]


def test_every_block_of_commands_says_whether_it_was_run() -> None:
    assert {block.mark for block in COMMANDS} == {"# run", "# not run"}
    assert len(RUN) >= 5


def test_only_our_own_commands_are_marked_as_run() -> None:
    assert {shlex.split(line)[0] for block in RUN for line in block.text.splitlines()} == {"tune-app"}


def test_options_and_links_exist() -> None:
    names = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"`tune-app ([a-z]+)", TEXT)) <= names
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


@pytest.fixture
def spec_file(shown: Shown, tmp_path: Path) -> Path:
    """`spec.yaml` of the document: the search that the cluster knows."""
    path = tmp_path / "spec.yaml"
    path.write_text(shown.spec_file.read_text())
    return path


def with_section(spec_file: Path, section: str) -> None:
    """Replaces a part of the spec by a YAML block of the document."""
    yaml: Any = YAML(typ="safe")
    yaml.dump({**yaml.load(spec_file.read_text()), **yaml.load(section)}, spec_file)
    assert load_spec(spec_file).storage.startswith("s3://")


@pytest.mark.ray
@pytest.mark.parametrize("heading", dict.fromkeys(block.heading for block in RUN))
def test_commands_that_are_marked_as_run_do(
    heading: str, shown: Shown, spec_file: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_APP_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("ADDRESS", shown.cluster.address)
    for block in blocks():
        if block.heading != heading:
            continue
        if block.language == "yaml":
            with_section(spec_file, block.text)
        elif block.mark == "# run":
            for line in block.text.splitlines():
                words = shlex.split(os.path.expandvars(line), comments=True)
                code, said = call(words[1:], cli, shown)
                assert code == 0, f"{line}: {said}"


def call(words: list[str], cli: Cli, shown: Shown) -> tuple[int, str]:
    """Runs a command here, or, if it becomes a driver, as a process that joins the cluster."""
    if words[0] != "doctor":
        result = cli(*words)
        return result.code, result.err
    env = {**shown.cluster.env, "RAY_ADDRESS": shown.cluster.ray_address}
    done = subprocess.run([sys.executable, "-m", "tune_app", *words], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr
