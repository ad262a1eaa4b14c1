"""A real search on Ray whose experiment lies in a bucket: driver and workers share nothing but S3."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tests.stored import lines
from trainables.stages.cache import StageCache
from trainables.storage import names, storage_path
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger

pytestmark = pytest.mark.ray
TIMEOUT_S = 240


def start(*args: object) -> "subprocess.Popen[str]":
    """A command with a Ray of its own, whose workers get this environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "tune_app", *map(str, args)],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: "subprocess.Popen[str]") -> str:
    """The output of a command that ends well."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    return out


def test_a_driver_that_was_killed_goes_on_in_its_bucket(
    bucket: str, ray_address: str, cli: Callable[..., Result], tmp_path: Path
) -> None:
    spec = tiny_spec(storage_path(f"{bucket}/runs"), budget={"trials": 3})
    file, folder = write_spec(tmp_path / "spec.yaml", spec), ExperimentFolder(spec.folder)
    process, deadline = start("run", file), time.monotonic() + TIMEOUT_S
    while not names(folder.trials, "*.json"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = set(names(folder.trials, "*.json"))
    assert "3 trials" in finished(start("run", file))
    assert kept <= set(names(folder.trials, "*.json"))
    records, damaged = Ledger(folder.trials).read()
    assert ([r.state for r in records], damaged) == (["complete"] * 3, [])
    done = [event["key"] for event in lines(folder.stages / "log.jsonl") if event["event"] == "finish"]
    stages = StageCache(folder.stages).keys()
    assert len(stages) == 4  # the baseline and three networks
    assert len(done) == len(set(done)), "a stage was made twice"
    assert set(done) <= set(stages)
    assert len(stages) <= len(done) + 2  # whose worker was killed after it was published, before the log
    assert "3 trials (0 new)" in cli("run", file).out
    rows = json.loads(cli("frontier", folder.path, "--all", "--json").out)
    assert {row["trial_id"] for row in rows} == {r.assignment.trial_id for r in records}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.yaml"]
