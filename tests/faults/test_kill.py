"""SIGKILL of the driver and of a worker, Ctrl-C: nothing finished is lost, nothing is computed twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.specs import tiny_spec, write_spec
from trainables.stages.cache import StageCache
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import read_table

pytestmark = pytest.mark.ray
Start = Callable[..., "subprocess.Popen[str]"]
TIMEOUT_S = 240


def wait_for(what: str, happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not happened():
        if process.poll() is not None:
            raise AssertionError(f"the run ended before {what}: {process.communicate()}")
        assert time.monotonic() < deadline, f"no {what} within {TIMEOUT_S} s"
        time.sleep(0.02)


def events(folder: ExperimentFolder) -> list[dict[str, object]]:
    log = folder.stages / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def records(folder: ExperimentFolder) -> list[TrialRecord]:
    found, damaged = Ledger(folder.trials).read()
    assert not damaged
    return found


def facts(folder: ExperimentFolder) -> dict[str, tuple[str, dict[str, float], str]]:
    """What must not depend on interruptions: state, numbers and file of each point."""
    return {
        r.assignment.label: (r.state, r.metrics(), getattr(r.result, "artifact_sha256", "")) for r in records(folder)
    }


def table_facts(folder: ExperimentFolder) -> pd.DataFrame:
    columns = ["label", "state", "on_frontier", "accuracy", "size_bytes", "artifact_sha256", "config_key"]
    frame = read_table(folder.trials_table).to_pandas()
    return frame[columns].sort_values("label").reset_index(drop=True)


def worker_of(folder: ExperimentFolder, key: str) -> psutil.Process:
    newest = max((folder.stages / "locks" / key).glob("*.json"))
    return psutil.Process(json.loads(newest.read_text())["pid"])


def frozen_worker(folder: ExperimentFolder, process: "subprocess.Popen[str]") -> tuple[str, psutil.Process]:
    """Returns a stage in the middle of its training and its worker, which stands still (SIGSTOP): however fast the
    machine is, the search cannot end before the test goes on with it."""
    found: list[tuple[str, psutil.Process]] = []

    def running() -> list[str]:
        began = [str(e["key"]) for e in events(folder) if e["event"] == "start"]
        return [
            k for k in began if any(folder.stages.glob(f"progress/{k}/epoch-*")) and not (folder.stages / k).exists()
        ]

    def froze() -> bool:
        for key in running():
            try:
                worker = worker_of(folder, key)
                worker.suspend()
            except (psutil.NoSuchProcess, KeyError, ValueError):  # ended meanwhile
                continue
            if key in running():
                found.append((key, worker))
                return True
            worker.resume()
        return False

    wait_for("a stage with a saved epoch", froze, process)
    return found[0]


def with_baseline(finished_search: ExperimentFolder, storage: Path, **changes: object) -> ExperimentSpec:
    """A new experiment that has its baseline already, so that its first trials start at once."""
    spec = tiny_spec(storage, **changes)
    folder = ExperimentFolder(spec.folder)
    key = json.loads(finished_search.baseline_file.read_text())["key"]
    shutil.copytree(finished_search.stages / key, folder.stages / key)
    shutil.copytree(finished_search.baseline_file.parent, folder.baseline_file.parent)
    return spec


def test_a_driver_killed_again_and_again_loses_nothing(
    finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path
) -> None:
    seed = 20_261
    draw = random.Random(seed)
    spec = tiny_spec(tmp_path / "runs")
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    kept: dict[str, bytes] = {}
    # Killed while the baseline trains, while the first trials run, and after at least two more records.
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("a saved epoch of the baseline", lambda: any(folder.stages.glob("progress/*/epoch-000002-*"))),
        ("the first record", lambda: len(list(folder.trials.glob("*.json"))) >= 1),
        ("two more records", lambda: len(list(folder.trials.glob("*.json"))) >= len(kept) + 2),
    ]
    for what, happened in moments:
        process = start_cli("run", file)
        wait_for(what, happened, process)
        delay = draw.uniform(0, 0.7)
        time.sleep(delay)
        process.kill()
        process.wait()
        print(f"seed {seed}: killed {delay:.2f} s after {what}")
        for path in folder.trials.glob("*.json"):
            assert kept.get(path.name, path.read_bytes()) == path.read_bytes(), "a record changed"
            kept[path.name] = path.read_bytes()
    out, err = start_cli("run", file).communicate(timeout=TIMEOUT_S)
    assert "6 trials" in out, err
    # Every record that was ever seen is still there, and the results are those of the quiet run, bit for bit.
    assert all((folder.trials / name).read_bytes() == content for name, content in kept.items())
    assert facts(folder) == facts(finished_search)
    pd.testing.assert_frame_equal(table_facts(folder), table_facts(finished_search))
    # Every stage ran to its end once; one start more at most for each kill and slot. A worker that is killed between
    # the publishing of a stage and the log leaves no line of it, so that a kill costs a line for each slot at most.
    stages, quiet = StageCache(folder.stages).keys(), StageCache(finished_search.stages).keys()
    assert sorted(stages) == sorted(quiet)
    finished = [e["key"] for e in events(folder) if e["event"] == "finish"]
    assert len(set(finished)) == len(finished)
    assert set(finished) <= set(stages)
    assert len(stages) <= len(finished) + 2 * len(moments)
    starts = sum(e["event"] == "start" for e in events(folder))
    assert len(stages) <= starts <= len(stages) + 2 * len(moments)
    for stage in folder.stages.glob("*/stage.json"):
        history = json.loads(stage.read_text())["history"]
        assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))
    assert not list((folder.stages / "progress").glob("*"))
    assert not [p for p in folder.path.rglob(".draft-*") if p.parent == folder.trials]


def test_a_killed_worker_continues_from_its_last_epoch(
    finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path
) -> None:
    spec = with_baseline(finished_search, tmp_path / "runs")
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    process = start_cli("run", file)
    key, worker = frozen_worker(folder, process)
    worker.kill()
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert "6 complete" in out
    assert facts(folder) == facts(finished_search)
    # The stage was begun twice and ended once, and the second start did not repeat the first epoch's record.
    mine = [e["event"] for e in events(folder) if e["key"] == key]
    assert mine == ["start", "start", "finish"]
    assert all(r.assignment.attempt == 1 for r in records(folder))


def test_a_point_whose_worker_dies_each_time_fails_and_an_empty_search_ends_badly(
    finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path
) -> None:
    spec = with_baseline(
        finished_search, tmp_path / "runs", worker_retries=1, max_concurrent_trials=1, budget={"trials": 1}
    )
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    process = start_cli("run", file)
    killed: set[int] = set()

    def victim() -> psutil.Process | None:
        """The worker of the first quantization stage, each time it begins anew."""
        first = next((e for e in events(folder) if e["kind"] == "qat"), None)
        if first is None or (folder.stages / str(first["key"])).exists():
            return None
        try:
            worker = worker_of(folder, str(first["key"]))
            return worker if worker.pid not in killed and worker.is_running() else None
        except (psutil.NoSuchProcess, KeyError, ValueError):
            return None

    for _ in range(2):
        wait_for("a worker to kill", lambda: victim() is not None, process)
        worker = victim()
        assert worker is not None
        killed.add(worker.pid)
        worker.kill()
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 4, (out, err)
    assert "none of 1 trials of 'tiny' completed; 1 ended with: WorkerLost" in err
    [failed] = records(folder)
    assert failed.state == "failed"
    assert failed.reason.startswith("WorkerLost: the worker was lost 2 times")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_signal_ends_cleanly_and_says_how_to_go_on(
    number: signal.Signals, code: int, finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path
) -> None:
    spec = with_baseline(finished_search, tmp_path / "runs")
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    process = start_cli("run", file)
    wait_for("the first record", lambda: len(list(folder.trials.glob("*.json"))) >= 1, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in err
    assert f"tune-app run {file}" in err
    kept = {r.assignment.trial_id for r in records(folder)}
    assert set(read_table(folder.trials_table)["trial_id"].to_pylist()) <= kept
    with Lease(folder) as lease:  # free for the same command
        lease.check()


def test_two_drivers_on_one_experiment(finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path) -> None:
    spec = with_baseline(finished_search, tmp_path / "runs")
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    first = start_cli("run", file)
    wait_for("the lease", lambda: any(folder.lease.glob("*.json")), first)
    second = start_cli("run", file)
    out, err = second.communicate(timeout=TIMEOUT_S)
    assert second.returncode == 5, (out, err)
    assert f"process {first.pid} on {os.uname().nodename}" in err
    first.kill()


def test_a_cluster_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    file = write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path / "runs"))
    done = subprocess.run(
        [sys.executable, "-m", "tune_app", "run", str(file)],
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: Ray cannot be reached or started (127.0.0.1:9)")
