"""`submit`, `jobs` and `dashboard`: jobs by name, and one line for what cannot be."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cluster.job import JobState
from cluster.local import LocalBackend
from tests.conftest import Result
from tests.tune_app.factories import make_spec
from tests.tune_app.search.test_ladder import make_laddered, open_proposer
from tune_app.spec.yaml_file import dump_spec

Cli = Callable[..., Result]
ENDLESS = "trap 'exit 143' TERM; echo ready; while true; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_APP_JOBS", str(tmp_path / "jobs"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(dump_spec(make_spec(tmp_path / "runs")))
    return path


@pytest.fixture
def run_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets local jobs run a shell script in the place of Python; what still runs at the end is stopped."""

    def replace(script: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("cluster.local.sys.executable", str(program))

    yield replace
    backend = LocalBackend()
    for handle in backend.list():
        backend.stop(handle)


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def states(cli: Cli) -> dict[str, str]:
    return {row["job"]: row["state"] for row in json.loads(cli("jobs", "list", "--json").out)}


def wait_for(cli: Cli, job: str, state: JobState) -> None:
    while states(cli)[job] != state:
        time.sleep(0.05)


def test_a_job_is_found_by_its_id_and_by_its_experiment(
    cli: Cli, spec: Path, run_instead: Callable[[str], None]
) -> None:
    run_instead("echo trained")
    for number in (1, 2):
        sent = cli("submit", spec, "--backend", "local")
        assert (sent.code, sent.err) == (0, "cluster: this machine\n")
        assert cli("-q", "jobs", "list", "--backend", "local").err == ""
        assert sent.out.startswith(f"toy-{number} submitted; results go to ")
        wait_for(cli, f"toy-{number}", JobState.SUCCEEDED)
    assert list(states(cli)) == ["toy-2", "toy-1"]
    assert json.loads(cli("jobs", "status", "toy", "--json").out)["job"] == "toy-2"
    assert json.loads(cli("jobs", "status", "toy-1", "--json").out)["job"] == "toy-1"
    assert cli("jobs", "status", "toy").out == "succeeded\n"
    assert cli("jobs", "logs", "toy").out == cli("jobs", "logs", "toy-1", "--follow").out == "trained\n"
    assert [line.split() for line in cli("jobs", "list").out.splitlines()[-2:]] == [
        ["toy-2", "toy", "succeeded"],
        ["toy-1", "toy", "succeeded"],
    ]


def test_the_commands_that_a_submission_proposes_run(cli: Cli, spec: Path, run_instead: Callable[[str], None]) -> None:
    run_instead("true")
    proposed = [line.split() for line in cli("submit", spec, "--backend", "local").out.splitlines()[1:]]
    assert [words[:3] for words in proposed] == [["tune-app", "jobs", verb] for verb in ("logs", "status", "stop")]
    assert all(cli(*words[1:]).code == 0 for words in proposed)


def test_the_proposed_commands_mean_the_job_that_was_sent(
    cli: Cli, spec: Path, run_instead: Callable[[str], None]
) -> None:
    """An experiment may have the name that a job of another one has."""
    run_instead("true")
    cli("submit", spec, "--backend", "local")
    wait_for(cli, "toy-1", JobState.SUCCEEDED)
    run_instead(ENDLESS)
    proposed = cli("submit", spec, "--backend", "local", "--set", "name=toy-1").out.splitlines()[1:]
    stop = next(line.split()[1:] for line in proposed if " stop " in line)
    assert cli(*stop).out == "toy-1-1: stop signal sent; finished trials are kept\n"


def test_a_job_is_stopped_once(cli: Cli, spec: Path, run_instead: Callable[[str], None]) -> None:
    run_instead(ENDLESS)
    cli("submit", spec, "--backend", "local")
    assert states(cli) == {"toy-1": "running"}
    again = cli("submit", spec, "--backend", "local")
    assert again.code == 5
    refused = again.err.splitlines()[-1]
    assert "toy-1 of this experiment is running" in refused
    assert "`tune-app jobs stop toy-1 --backend local`" in refused
    assert "stop signal sent" in cli("jobs", "stop", "toy").out
    wait_for(cli, "toy-1", JobState.STOPPED)
    assert cli("jobs", "stop", "toy").out == "toy-1 ended before: stopped\n"


@pytest.mark.parametrize("verb", ["status", "logs", "stop"])
def test_a_job_that_is_not_there(verb: str, cli: Cli, spec: Path, run_instead: Callable[[str], None]) -> None:
    run_instead("true")
    assert "there are: none." in cli("jobs", verb, "demo").err
    cli("submit", spec, "--backend", "local")
    result = cli("jobs", verb, "demo")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[1:] == ["error: no job or experiment 'demo' was submitted there; there are: toy-1."]


def test_a_dry_run_asks_no_cluster_and_writes_nothing(cli: Cli, spec: Path, tmp_path: Path) -> None:
    result = cli("submit", spec, "--backend", "ray", "--address", unused_address(), "--dry-run")
    plan = YAML(typ="safe").load(result.out)
    assert (result.code, result.err) == (0, "")
    assert plan["submission_id"] == "toy-1"
    assert plan["entrypoint"] == "python -m tune_app run spec.yaml"
    assert plan["metadata"]["experiment"] == "toy"
    assert YAML(typ="safe").load(plan["files"]["spec.yaml"])["name"] == "toy"
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_dry_run_shows_the_next_local_job(cli: Cli, spec: Path, run_instead: Callable[[str], None]) -> None:
    run_instead("true")
    cli("submit", spec, "--backend", "local")
    while states(cli) != {"toy-1": "succeeded"}:
        time.sleep(0.05)
    plan = YAML(typ="safe").load(cli("submit", spec, "--backend", "local", "--dry-run").out)
    assert (plan["submission_id"], plan["metadata"]["attempt"]) == ("toy-2", "2")
    run_instead(ENDLESS)
    cli("submit", spec, "--backend", "local")
    assert cli("submit", spec, "--backend", "local", "--dry-run").code == 5


def test_a_plan_counts_trials_that_share_a_gpu_automatically(cli: Cli, spec: Path) -> None:
    cluster = {"image": "registry.example.com/tune-app:0.1.0", "workers": {"cpus": 16, "gpus": 1, "max_nodes": 2}}
    wanted = make_spec("s3://bucket/runs", resources={"cpu": 1, "gpu": "auto"}, budget={"trials": 99}, cluster=cluster)
    spec.write_text(dump_spec(wanted))
    facts = {
        backend: YAML(typ="safe").load(cli("submit", spec, "--backend", backend, "--dry-run").out)["facts"]
        for backend in ("kuberay", "ray", "local")
    }
    assert facts["kuberay"]["trials_at_once"] == 16
    assert [facts[backend]["gpus_per_trial"] for backend in ("ray", "local")] == ["auto", "auto"]


def test_a_plan_counts_trials_on_cheaper_rungs(cli: Cli, spec: Path, tmp_path: Path) -> None:
    cluster = {"image": "registry.example.com/tune-app:0.1.0", "workers": {"cpus": 16, "gpus": 0, "max_nodes": 2}}
    wanted = make_laddered(tmp_path, budget={"trials": 4}, cluster=cluster)
    proposer = open_proposer(wanted)
    running = [work for work in (proposer.next() for _ in range(99)) if work is not None]
    spec.write_text(dump_spec(wanted.model_copy(update={"storage": "s3://bucket/runs"})))
    facts = YAML(typ="safe").load(cli("submit", spec, "--backend", "kuberay", "--dry-run").out)["facts"]
    assert facts["trials_at_once"] == len(running) > 4


def test_a_dry_run_refuses_a_variable_that_is_not_set(
    cli: Cli, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec.write_text(dump_spec(make_spec(tmp_path, cluster={"env": ["NOT_SET_HERE"]})))
    result = cli("submit", spec, "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert "cluster.env names NOT_SET_HERE, which is not set here" in result.err
    monkeypatch.setenv("NOT_SET_HERE", "hunter2")
    result = cli("submit", spec, "--dry-run")
    assert (result.code, "hunter2" in result.out) == (0, False)


def test_a_plan_is_written_where_it_is_wanted(cli: Cli, spec: Path, tmp_path: Path) -> None:
    section = {"image": "registry.example.com/tune-app:0.1.0"}
    spec.write_text(dump_spec(make_spec(tmp_path).model_copy(update={"storage": "s3://bucket/runs"})))
    text = YAML(typ="safe").load(spec.read_text())
    text["cluster"] |= section
    YAML(typ="safe").dump(text, spec)
    target = tmp_path / "manifests"
    result = cli("submit", spec, "--backend", "kuberay", "--output", target)
    assert result.code == 0, result.err
    assert "Nothing was started" in result.out
    assert {path.name for path in target.iterdir()} >= {"rayjob.yaml", "configmap.yaml"}
    plan = YAML(typ="safe").load(cli("submit", spec, "--backend", "kuberay", "--dry-run").out)
    assert {path.name: path.read_text() for path in target.iterdir()} == plan["files"]
    assert [line.strip() for line in result.out.splitlines()[1:]] == plan["commands"]
    blocked = cli("submit", spec, "--backend", "kuberay", "--output", spec / "below")
    assert (blocked.code, blocked.out) == (3, "")
    assert blocked.err.startswith("error: cannot write ")


REFUSED = {
    "an unknown backend": (["submit", "SPEC", "--backend", "kubray"], 2, "Did you mean 'kuberay'?"),
    "jobs of a backend that only plans": (["jobs", "list", "--backend", "aws"], 2, "only makes plans"),
    "an address of this machine": (
        ["jobs", "list", "--backend", "local", "--address", "http://u:hunter2@a:1"],
        2,
        "an address is of a cluster: use --backend ray",
    ),
    "an address that is none": (["jobs", "list", "--address", "127.0.0.1:6379"], 2, "write it like http://"),
    "a password in an address": (["jobs", "list", "--address", "http://u:hunter2@a:1"], 2, "no credentials"),
    "a token in an address": (["jobs", "list", "--address", "http://a:1/?token=hunter2"], 2, "no credentials"),
    "a password in a dry run": (
        ["submit", "SPEC", "--dry-run", "--address", "http://u:hunter2@a:1"],
        2,
        "no credentials",
    ),
    "an address of machines that are to be started": (
        ["submit", "SPEC", "--backend", "aws", "--address", "http://u:hunter2@a:1"],
        2,
        "is of a cluster that is there: use --backend ray",
    ),
    "a folder for files of a job that is sent": (
        ["submit", "SPEC", "--backend", "local", "--output", "plans"],
        2,
        "--backend local sends the job and writes no files: leave --output out",
    ),
    "a folder for a plan that is printed": (
        ["submit", "SPEC", "--backend", "aws", "--dry-run", "--output", "plans"],
        2,
        "--dry-run prints the plan and writes no files: leave --output out",
    ),
    "nobody there to send to": (["submit", "SPEC", "--address", "URL"], 3, "does not take the request"),
    "nobody there to list": (["jobs", "list", "--address", "URL"], 3, "does not take the request"),
    "nobody there to show": (["dashboard", "--address", "URL"], 3, "does not take the request"),
    "a missing spec": (["submit", "none.yaml"], 2, "none.yaml"),
    "a folder that is none": (["dashboard", "--grafana", "SPEC/tune-app.json"], 3, "cannot"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], code: int, words: str, cli: Cli, spec: Path, tmp_path: Path
) -> None:
    address = unused_address()
    given = [argument.replace("SPEC", str(spec)).replace("URL", address) for argument in arguments]
    result = cli(*given)
    *before, line = result.err.splitlines()
    assert (result.code, result.out) == (code, "")
    assert line.startswith("error: ")
    assert words in line
    assert "hunter2" not in result.err
    assert all(each.startswith("cluster: ") for each in before)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_plan_does_not_overwrite_the_spec_that_it_is_made_of(cli: Cli, spec: Path, tmp_path: Path) -> None:
    content = YAML(typ="safe").load(spec.read_text())
    content |= {"storage": "s3://bucket/runs"}
    content["cluster"] |= {"image": "registry.example.com/tune-app:0.1.0"}
    content["cluster"]["kubernetes"] |= {"standing": "search"}
    YAML(typ="safe").dump(content, spec)
    text = spec.read_text()
    result = cli("submit", spec, "--backend", "kuberay", "--output", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "would overwrite the spec" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]
    assert spec.read_text() == text
    assert cli("submit", spec, "--backend", "kuberay", "--output", tmp_path / "plan").code == 0


def test_the_environment_names_the_cluster_and_it_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    address = unused_address()
    monkeypatch.setenv("RAY_ADDRESS", address)
    result = cli("jobs", "list")
    assert result.code == 3
    assert result.err.startswith(f"cluster: {address}\nerror: {address} does not take the request")
    assert "HTTPConnection" not in result.err
    assert cli("jobs", "list", "--backend", "local").code == 0


def test_the_dashboard_for_grafana_is_written(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "tune-app.json"
    result = cli("dashboard", "--grafana", target)
    assert (result.code, result.out.strip()) == (0, str(target))
    assert json.loads(target.read_text())["title"] == "tune-app"
