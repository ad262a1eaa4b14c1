"""docs/cluster.md: what it marks as run runs, in its order."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.document import BLOCKS, RUN, with_section
from tests.cluster.live.conftest import Shown
from tests.conftest import Result

pytestmark = pytest.mark.ray
Cli = Callable[..., Result]


@pytest.mark.parametrize("heading", dict.fromkeys(block.heading for block in RUN))
def test_commands_that_are_marked_as_run_do(
    heading: str, shown: Shown, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNE_APP_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("ADDRESS", shown.cluster.address)
    spec_file = tmp_path / "spec.yaml"
    spec_file.write_text(shown.spec_file.read_text())  # the search that the cluster knows
    for block in BLOCKS:
        if block.heading != heading:
            continue
        if block.language == "yaml":
            with_section(spec_file, block.text)
        elif block in RUN:
            for line in block.text.splitlines():
                code, said = call(shlex.split(os.path.expandvars(line), comments=True), cli, shown)
                assert code == 0, f"{line}: {said}"


def call(words: list[str], cli: Cli, shown: Shown) -> tuple[int, str]:
    """Runs `tune-app …` here or, if it joins the cluster, as a process that can."""
    if words[1] != "doctor":
        result = cli(*words[1:])
        return result.code, result.err
    env = {**shown.cluster.env, "RAY_ADDRESS": shown.cluster.ray_address}
    command = [sys.executable, "-m", "tune_app", *words[1:]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
