"""The pages of the documentation as blocks, and a shell that runs what they say."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CLUSTER = ROOT / "docs/cluster.md"
"""Has tests of its own, on a cluster."""
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
LIMIT_S = 600
CAN_DRAW = shutil.which("chromium") is not None or "CI" in os.environ
ALONE = {"demo", "doctor", "submit", "jobs", "track"}
"""Commands in a process of their own, since they start others; the rest run here, which saves their imports."""
AS = re.compile(r"# (\S+\.yaml)(?:, otherwise as (\S+))?\n")


class Block(NamedTuple):
    """A fenced block with the page it is on; the mark of commands and the name of a file are its first line."""

    page: Path
    language: str
    mark: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S):
        first, _, rest = text.partition("\n")
        mark = first if language == "bash" and first in ("# run", "# not run") else ""
        named = re.match(r"# (\S+\.(?:py|yaml|toml))(,|$)", first) if language in ("python", "yaml", "toml") else None
        yield Block(page, language, mark, named[1] if named else "", rest if mark else text)


def runs(block: Block) -> bool:
    """Whether a block of commands is run as it stands: on the README all are."""
    return block.language == "bash" and block.mark != "# not run"


def commands(block: Block) -> list[list[str]]:
    """The words of each line of a block of commands."""
    found = (shlex.split(line, comments=True) for line in block.text.splitlines())
    return [words for words in found if words]


def merged(spec: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with other keys: top-level ones are replaced, those of `base` and of its parts are set one by one."""
    result = {**spec, **change}
    if "base" in spec and "base" in change:
        result["base"] = _with(spec["base"], change["base"])
    return result


def _with(part: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    if change.get("kind", part.get("kind")) != part.get("kind"):
        return dict(change)
    inner = {n: _with(part[n], v) for n, v in change.items() if isinstance(v, dict) and isinstance(part.get(n), dict)}
    return {**part, **change, **inner}


class Shell:
    """Runs the blocks of pages in a folder, each command once; `run` whenever it stands there, as it changes much.

    Targets of `make` are left out: they make this very repository. With `names`, blocks of Python share them.
    """

    def __init__(self, folder: Path, *, ray_address: str = "", names: dict[str, Any] | None = None) -> None:
        self.folder, self._names = folder, names
        self._alone = ALONE if ray_address else {*ALONE, "run"}  # a search joins the Ray of this process if it has one
        self._env = {**os.environ, **({"RAY_ADDRESS": ray_address} if ray_address else {})}
        self._said: dict[tuple[str, ...], str] = {}

    def do(self, block: Block) -> str:
        """Runs commands or Python, or writes a file; returns what the last command printed."""
        if block.language == "yaml" and block.file:
            self._write_spec(block)
        elif block.language in ("python", "toml") and block.file:
            (self.folder / block.file).write_text(block.text)
        elif block.language == "python":
            return self._exec(block.text)
        elif runs(block):
            return [self.call(*words) for words in commands(block)][-1]
        return ""

    def call(self, *words: str) -> str:
        """What a command prints; it must end well."""
        if words not in self._said or words[1] == "run":
            self._said[words] = self._run(*words)
        return self._said[words]

    def _run(self, program: str, *arguments: str) -> str:
        if program == "make" or ("--figures" in arguments and not CAN_DRAW):
            return ""
        if program == "python":
            return self._process(*arguments)
        if program == "pip":
            return self._install()
        assert program == "tune-app", f"nobody knows how to run {program}"
        if arguments[0] in self._alone or self._env.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
            return self._process("-m", "tune_app", *arguments)
        return self._here(*arguments)

    def _process(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, f"{shlex.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def _install(self) -> str:
        """The package in the folder, for this shell alone: its wheel, unpacked where its processes look."""
        said = self._process("-m", "hatchling", "build", "--target", "wheel", "--directory", "wheels")
        for wheel in (self.folder / "wheels").glob("*.whl"):
            shutil.unpack_archive(wheel, self.folder / "site", "zip")
        self._env["PYTHONPATH"] = os.pathsep.join([str(self.folder / "site"), self._env.get("PYTHONPATH", "")])
        return said

    def _here(self, *arguments: str) -> str:
        from tune_app.cli.main import main

        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", ["tune-app", *arguments]),
        ):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        assert code == 0, f"tune-app {shlex.join(arguments)}: {err.getvalue()}"
        return out.getvalue()

    def _exec(self, code: str) -> str:
        out = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            exec(code, {} if self._names is None else self._names)
        return out.getvalue()

    def _write_spec(self, block: Block) -> None:
        """A whole spec, or one that changes another."""
        named = AS.match(block.text)
        assert named is not None
        if not named[2]:
            (self.folder / named[1]).write_text(block.text)
            return
        yaml: Any = YAML(typ="safe")
        yaml.sort_base_mapping_type_on_output = False  # the order of parameters is part of a label
        yaml.dump(
            merged(yaml.load((self.folder / named[2]).read_text()), yaml.load(block.text)), self.folder / named[1]
        )


def script(name: str) -> ModuleType:
    """A script of docs/, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
