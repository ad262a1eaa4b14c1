"""Help says in a line what a command does, how to call it, and what holds unless it is told otherwise."""

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from tests.documents import ROOT
from tests.test_docs import parse
from tune_app.cli.main import app

LOCAL = {"demo", "baseline", "doctor", "submit", "dashboard", "jobs list", "jobs status", "jobs logs", "jobs stop"}
"""Commands that are plain enough without an example, or need an account or a cluster."""


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        yield from commands(command, full) if hasattr(command, "commands") else [(full, command)]


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_is_described_in_one_line(name: str) -> None:
    first = (ALL[name].help or "").strip().split("\n\n")[0]
    assert re.fullmatch(r"[A-Z].*\.", first), first
    assert len(first) <= 120


@pytest.mark.parametrize("name", sorted(ALL.keys() - LOCAL))
def test_a_command_has_an_example_that_it_understands(name: str) -> None:
    start, _, example = ALL[name].epilog.partition(": ")
    words = shlex.split(example)
    assert (start, " ".join(words[: 1 + len(name.split())])) == ("Example", f"tune-app {name}")
    assert parse(words[1:])


@pytest.mark.parametrize("name", ALL)
def test_arguments_are_upper_case_and_options_say_what_they_are(name: str) -> None:
    for parameter in ALL[name].params:
        if parameter.param_type_name == "argument":
            assert re.fullmatch(r"[A-Z_|]+", parameter.metavar or ""), parameter.name
        elif parameter.name != "help":
            assert re.match(r"[A-Za-z0-9]", parameter.help), parameter.name
            assert "(" not in str(parameter.show_default), parameter.name


@pytest.mark.parametrize("package", ["tune_app", "trainables", "search_spaces"])
def test_results_are_printed_by_the_command_line_alone(package: str) -> None:
    """Library files return values; what they tell people while they work goes to standard error."""
    prints = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / package).rglob("*.py")
        if not {"cli", "terminal"} & set(path.relative_to(ROOT).parts)
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"print", "print_table", "sys.stdout.write"}
        if "file" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not prints
