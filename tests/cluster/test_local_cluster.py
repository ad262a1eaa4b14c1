"""Nodes as processes: each is ended with all that it started. A shell script stands in for Ray."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import demo
from cluster.errors import ClusterUnreachable
from cluster.local_cluster import STARTED, LocalCluster

CHILDREN = f"""
sleep 1000 &
setsid sleep 1000 &
setsid sh -c 'sleep 1000 & wait' &
echo "$$ {STARTED}"
wait
"""


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("cluster.local_cluster.RAY", ("/bin/sh", "-c", CHILDREN))
    return monkeypatch


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """The demonstration's own is not left behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def sleepers(folder: Path) -> list[psutil.Process]:
    """Living processes that were started with this folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("RAY_AUTH_TOKEN_PATH", ""):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait_for(count: int, folder: Path) -> None:
    """Until the shells have started what they start."""
    for _ in range(200):
        if len(sleepers(folder)) == count:
            return
        time.sleep(0.05)
    raise AssertionError(sleepers(folder))


def test_a_killed_node_leaves_nothing_and_the_others_stay(instead: pytest.MonkeyPatch) -> None:
    with LocalCluster() as cluster:
        cluster.start_head()
        wait_for(5, cluster.folder)
        cluster.start_worker("worker-1")
        wait_for(10, cluster.folder)
        cluster.kill("worker-1")
        assert len(sleepers(cluster.folder)) == 5
    assert sleepers(cluster.folder) == []
    assert not cluster.folder.exists()


def test_an_interrupt_ends_every_node(instead: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Path] = []

    def interrupted(cluster: LocalCluster, *_: object) -> int:
        assert sleepers(cluster.folder)
        seen.append(cluster.folder)
        raise KeyboardInterrupt

    instead.setattr("cluster.demo.show", interrupted)
    assert demo.main(["spec.yaml", "--folder", str(tmp_path)]) == 130
    [folder] = seen
    assert sleepers(folder) == []
    assert not folder.exists()


def test_a_demonstration_that_is_terminated_ends_every_node(tmp_path: Path) -> None:
    code = f"""
import sys, time
from cluster import demo, local_cluster

def show(cluster, *_):
    print(cluster.folder, flush=True)
    time.sleep(1000)

local_cluster.RAY, demo.show = ("/bin/sh", "-c", {CHILDREN!r}), show
sys.exit(demo.main(["spec.yaml", "--folder", {str(tmp_path)!r}]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path([process.stdout.readline() for _ in range(3)][-1].strip())
    assert sleepers(folder)
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert sleepers(folder) == []
    assert not folder.exists()


def test_a_node_that_does_not_start_says_why(instead: pytest.MonkeyPatch) -> None:
    instead.setattr("cluster.local_cluster.RAY", ("/bin/sh", "-c", "echo no room >&2; exit 1"))
    with LocalCluster() as cluster, pytest.raises(ClusterUnreachable, match=r"'head' did not start.*no room"):
        cluster.start_head()
    assert not cluster.folder.exists()


def test_the_token_is_read_by_its_owner_alone_and_named_only() -> None:
    with LocalCluster() as cluster:
        token = cluster.token_file.read_text()
        assert len(token) == 64
        assert stat.S_IMODE(cluster.token_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
        assert token not in cluster.env.values()


def test_nodes_know_nothing_of_another_cluster_and_find_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_HEADERS"):
        monkeypatch.setenv(name, "another cluster's")
    with LocalCluster(settings={"RAY_metrics_report_interval_ms": "1000"}) as cluster:
        assert "another cluster's" not in cluster.env.values()
        assert cluster.env["RAY_metrics_report_interval_ms"] == "1000"
        assert shutil.which("python", path=cluster.env["PATH"]) == os.path.join(
            os.path.dirname(sys.executable), "python"
        )


def test_the_demonstration_refuses_what_it_would_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "cluster_demo/trials/one.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert demo.main(["spec.yaml", "--folder", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} holds an earlier run")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("budget", ["{trials: 4}", "4"])
def test_a_search_that_ends_early_costs_no_node(
    budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"name: demo\nbudget: {budget}\n")
    monkeypatch.setattr("cluster.demo.OURS", (sys.executable, "-c", "print('failed')"))
    with LocalCluster() as cluster:  # no node of it runs: killing one would be an error
        assert demo.show(cluster, spec, tmp_path / "results") == 4
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[cluster]")]
    assert said[1:] == ["[cluster] the job failed; 0 of 4 trials have a record"]


def test_the_demonstration_without_a_spec(
    instead: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([str(tmp_path / "none.yaml"), "--folder", str(tmp_path / "results")]) == 2
    assert "none.yaml" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("content", [b"name: [demo", b"- demo", b"name: demo\nname: demo", b"\xff", b"", b"name: demo"])
def test_the_demonstration_of_a_file_that_is_no_spec(
    content: bytes, instead: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_bytes(content)
    assert demo.main([str(spec), "--folder", str(tmp_path / "results")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {spec} is no spec: ")
