"""docs/cluster.md: its marks, its names, and the commands that nobody ran."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from tests.cluster.document import BLOCKS, COMMANDS, ROOT, RUN, TEXT, with_section
from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tune_app.cli.main import app

Cli = Callable[..., Result]


def test_every_block_of_commands_says_whether_it_was_run() -> None:
    assert {block.mark for block in COMMANDS} == {"# run", "# not run"}


def test_only_our_own_commands_are_marked_as_run() -> None:
    assert {shlex.split(line)[0] for block in RUN for line in block.text.splitlines()} == {"tune-app"}


def test_commands_and_links_exist() -> None:
    assert set(re.findall(r"`tune-app ([a-z]+)", TEXT)) <= set(get_command(app).commands)  # type: ignore[attr-defined]
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize(
    ("section", "backend", "folder"), [("kubernetes", "kuberay", "manifests"), ("aws", "aws", "aws")]
)
def test_what_nobody_ran_is_what_submit_prints(
    section: str, backend: str, folder: str, cli: Cli, tmp_path: Path
) -> None:
    [block] = [block for block in BLOCKS if block.language == "yaml" and f"  {section}:" in block.text]
    file = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path, name="demo"))
    with_section(file, block.text)
    plan = YAML(typ="safe").load(cli("submit", file, "--backend", backend, "--dry-run").out)
    [shown] = [other for other in COMMANDS if other.heading == block.heading and other.mark == "# not run"]
    lines = [line for line in shown.text.splitlines() if line != f"cd {folder}"]
    assert lines == [line.partition("  # ")[0] for line in plan["commands"]]
