"""The cluster demonstration, and jobs on the cluster that it leaves."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.job import JobState
from cluster.ray_jobs import RayBackend
from cluster.working_dir import PACKAGES
from tests.cluster.live.conftest import TRIALS, Shown, live_spec, token_header
from tests.conftest import Result
from tests.specs import write_spec
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger
from tune_app.run.submission import job_of
from tune_app.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.ray
Cli = Callable[..., Result]
LIMIT_S = 120.0


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def states(cli: Cli, shown: Shown) -> dict[str, str]:
    listed = cli("jobs", "list", "--json", "--address", shown.cluster.address)
    return {row["job"]: row["state"] for row in json.loads(listed.out)}


def tasks(shown: Shown) -> set[tuple[str, str]]:
    """Name and state of each task, by which the dashboard counts them."""
    found = shown.get("/api/v0/tasks?detail=1&limit=1000")["data"]["result"]["result"]
    return {(task["name"], task["state"]) for task in found}


def titles() -> set[str]:
    """What the processes of this machine call themselves."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.update(process.cmdline()[:1])
    return found


def test_the_demonstration_says_what_happens(shown: Shown) -> None:
    assert shown.code == 0, shown.printed
    ours = [
        r"\[cluster\] submitting .*small\.yaml through the Jobs API; .*",
        r"\[cluster\] [12] of 3 trials are done and others run: worker-1 is killed, .*",
        r"\[cluster\] worker-2 has joined: .*",
        r"\[cluster\] the job succeeded; 3 of 3 trials have a record",
    ]
    lines = shown.printed.splitlines()
    said = [line for line in lines if line.startswith("[cluster]")]
    assert len(said) == len(ours), shown.printed
    assert all(re.fullmatch(line, found) for line, found in zip(ours, said, strict=True)), shown.printed
    # The job's log among them was followed to its end, and the frontier comes last.
    log = [i for i, line in enumerate(lines) if re.match(r"\[[1-3]/3\] p\d+_w\d+_a8 accuracy ", line)]
    assert len(log) == TRIALS, shown.printed
    assert log[0] > lines.index(said[0])
    assert lines.index(said[2]) < log[-1] < lines.index(said[3])
    assert any(line.startswith("frontier of ") for line in lines[lines.index(said[3]) :])
    assert not [line for line in lines if "raylet" in line or ".cc:" in line]
    assert f"live report: tune-app report {shown.folder.path} --watch" in lines


def test_every_trial_is_a_task_with_its_name(shown: Shown) -> None:
    labels = {record.assignment.label for record in Ledger(shown.folder.trials).read()[0]}
    finished = {name for name, state in tasks(shown) if state == "FINISHED"}
    assert finished >= {*labels, "data and baseline of demo"}
    assert not [name for name, _ in tasks(shown) if name.endswith(".train")]


def test_each_configuration_has_one_complete_record(shown: Shown) -> None:
    records, damaged = Ledger(shown.folder.trials).read()
    assert not damaged
    assert [record.state for record in records] == ["complete"] * TRIALS
    assert len({record.assignment.config_key for record in records}) == TRIALS
    assert {record.assignment.attempt for record in records} == {1}, "a lost node is no failure of a trial"


def test_what_the_killed_worker_ran_goes_on_from_its_last_epoch(shown: Shown) -> None:
    log = [json.loads(line) for line in (shown.folder.stages / "log.jsonl").read_text().splitlines()]
    ends = [event["key"] for event in log if event["event"] == "finish"]
    starts = [event["key"] for event in log if event["event"] == "start"]
    assert len(ends) == len(set(ends)), "a stage ran twice to its end"
    assert [key for key in ends if starts.count(key) == 2], "no stage was begun again"
    for stage in shown.folder.stages.glob("*/stage.json"):
        history = json.loads(stage.read_text())["history"]
        assert [row["epoch"] for row in history] == list(range(1, len(history) + 1))


def test_a_second_submission_goes_on_and_has_nothing_left_to_do(cli: Cli, shown: Shown) -> None:
    where = ("--address", shown.cluster.address)
    kept = {path.name: path.read_bytes() for path in shown.folder.trials.glob("*.json")}
    sent = cli("submit", shown.spec_file, *where)
    job = sent.out.split()[0]
    assert re.fullmatch(r"demo-[2-9]", job), sent
    assert sent.err == f"cluster: {shown.cluster.address}\n"
    followed = cli("jobs", "logs", "demo", "--follow", *where)
    assert (followed.code, followed.err) == (0, f"cluster: {shown.cluster.address}\n")
    assert "3 trials (0 new)" in followed.out
    assert "[1/3]" not in followed.out
    assert {path.name: path.read_bytes() for path in shown.folder.trials.glob("*.json")} == kept
    assert states(cli, shown).items() >= {job: "succeeded", "demo-1": "succeeded"}.items()
    assert next(iter(states(cli, shown))) == job
    assert cli("jobs", "status", "demo", *where).out == "succeeded\n"
    assert json.loads(cli("jobs", "status", "demo", "--json", *where).out)["job"] == job
    assert "[1/3]" in cli("jobs", "logs", "demo-1", *where).out
    assert cli("jobs", "stop", "demo", *where).out == f"{job} ended before: succeeded\n"


@pytest.fixture
def endless(shown: Shown, cli: Cli, tmp_path: Path) -> Iterator[ExperimentSpec]:
    """A search whose trials take hours; its baseline is there."""
    spec = live_spec(tmp_path, name="endless", epochs=10_000)
    known, folder = shown.folder, ExperimentFolder(spec.folder)
    shutil.copytree(known.baseline_file.parent, folder.baseline_file.parent)
    key = json.loads(known.baseline_file.read_text())["key"]
    shutil.copytree(known.stages / key, folder.stages / key)
    yield spec
    cli("jobs", "stop", "endless", "--address", shown.cluster.address)


def test_a_job_is_seen_by_its_names_and_stopped_by_that_of_its_experiment(
    endless: ExperimentSpec, cli: Cli, shown: Shown, tmp_path: Path
) -> None:
    where = ("--address", shown.cluster.address)
    file, folder = write_spec(tmp_path / "endless.yaml", endless), ExperimentFolder(endless.folder)
    assert cli("submit", file, *where).code == 0
    wait_for(lambda: any(folder.stages.glob("progress/*/epoch-*")))
    actors = [a for a in shown.get("/api/v0/actors?detail=1")["data"]["result"]["result"] if a["state"] == "ALIVE"]
    assert ("TrialWorker", "trials of endless") in {(actor["class_name"], actor["repr_name"]) for actor in actors}
    assert "ray::p0_w3_a8" in titles()
    [job] = [job for job in shown.get("/api/jobs/") if job["submission_id"] == "endless-1"]
    assert job["metadata"].items() >= {"job_name": "endless", "storage": endless.storage, "trials": "6"}.items()
    assert job["metadata"]["report"] == f"tune-app report {folder.path} --watch"
    wait_for(lambda: ("p0_w3_a8", "RUNNING") in tasks(shown))  # nodes tell of their tasks once a second
    again = cli("submit", file, *where)
    assert again.code == 5
    assert "job endless-1 of this experiment is running" in again.err
    assert "stop signal sent" in cli("jobs", "stop", "endless", *where).out
    wait_for(lambda: states(cli, shown)["endless-1"] == JobState.STOPPED)
    assert "stopped by SIGTERM. Finished trials are kept" in cli("jobs", "logs", "endless", *where).out
    with Lease(folder) as lease:  # free for the next job
        lease.check()


@pytest.mark.parametrize("header", [token_header("0" * 64), "{}"], ids=["wrong", "missing"])
@pytest.mark.parametrize("command", [["jobs", "list"], ["submit", "SPEC"], ["dashboard"]], ids=lambda words: words[0])
def test_who_has_no_token_is_refused(
    command: list[str], header: str, cli: Cli, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", header)
    given = [word.replace("SPEC", str(shown.spec_file)) for word in command]
    result = cli(*given, "--address", shown.cluster.address)
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines()[-1].startswith(f"error: {shown.cluster.address} refuses this user: ")


def test_a_driver_without_the_token_is_refused(shown: Shown) -> None:
    env = {name: value for name, value in shown.cluster.env.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-m", "tune_app", "doctor", str(shown.spec_file)],
        # Ray would try for 20 s.
        env={**env, "RAY_ADDRESS": shown.cluster.ray_address, "RAY_NUM_REDIS_GET_RETRIES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1].startswith("error: Ray cannot be reached or started"), done.stderr


def test_packages_that_travel_are_the_ones_that_run_on_every_node(shown: Shown) -> None:
    backend = RayBackend(shown.cluster.address)
    job = job_of(shown.spec, attempt=1).model_copy(update={"experiment": "uploaded"})
    uv = job.cluster.model_copy(update={"dependencies": "uv"})
    plan = backend.plan(job.model_copy(update={"cluster": uv}))
    assert plan.packages == PACKAGES
    assert plan.runtime_env.keys() == {"working_dir", "uv", "config", "env_vars"}
    # What uv would install is here already, and nodes of a test reach no index.
    installed = {key: value for key, value in plan.runtime_env.items() if key not in ("uv", "config")}
    code = (
        "import ray, trainables, tune_app.spec.yaml_file as ours; "
        "ray.init(log_to_driver=False); "
        'there = ray.remote(lambda: __import__("trainables").__file__); '
        "print(ours.__file__, ray.get(there.remote()))"
    )
    handle = backend.submit(plan.model_copy(update={"runtime_env": installed, "entrypoint": f"python -c '{code}'"}))
    printed = "".join(backend.logs(handle, follow=True))
    assert backend.status(handle) == JobState.SUCCEEDED, printed
    driver, task = printed.split()[-2:]
    for path in (driver, task):
        assert re.fullmatch(rf"{shown.cluster.folder}/.*/working_dir_files/.*\.py", path), printed
