"""Faults of nodes: trials move, what is finished stays, and memory that was not enough is learned from."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_kill import TIMEOUT_S, Start, events, facts, frozen_worker, records, wait_for, with_baseline
from tests.specs import write_spec
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.ray
Driver = Callable[..., "subprocess.Popen[str]"]


class Nodes:
    """A Ray cluster of separate raylets on this machine; its head runs no trials."""

    def __init__(self, **head: Any) -> None:
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 0, "include_dashboard": False, **head}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)

    def add(self, **options: Any) -> Any:
        return self.cluster.add_node(**{"num_cpus": 1, **options})

    def lose(self, node: Any) -> None:
        """As a machine that is switched off."""
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def nodes() -> Iterator[Callable[..., Nodes]]:
    started: list[Nodes] = []

    def start(**head: Any) -> Nodes:
        started.append(Nodes(**head))
        return started[-1]

    yield start
    for each in started:
        each.cluster.shutdown()


@pytest.fixture(scope="module")
def with_gpu() -> Iterator[Nodes]:
    """A cluster with a GPU, as far as Ray knows; one for all tests that need it."""
    started = Nodes()
    started.add(num_cpus=2, num_gpus=1)
    yield started
    started.cluster.shutdown()


@pytest.fixture
def drive(start_python: Driver) -> Driver:
    """Starts a driver, `tune-app run` or a script, connected to a cluster; what still runs at the end is killed."""
    return lambda on, *command, **env: start_python(*command, RAY_ADDRESS=on.cluster.address, **env)


def places(folder: ExperimentFolder) -> set[str]:
    """The nodes on which trials were seen."""
    found = set()
    for path in folder.heartbeats.glob("*.json"):
        try:
            found.add(json.loads(path.read_text())["node_id"])
        except (OSError, ValueError, KeyError):  # being replaced
            continue
    return found


def done(folder: ExperimentFolder) -> int:
    return len(list(folder.trials.glob("*.json")))


@pytest.mark.parametrize("at_once", [2, None])
def test_trials_of_a_lost_node_move_and_a_new_node_gets_work(
    at_once: int | None, finished_search: ExperimentFolder, nodes: Callable[..., Nodes], drive: Driver, tmp_path: Path
) -> None:
    spec = with_baseline(finished_search, tmp_path / "runs", max_concurrent_trials=at_once)
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    cluster = nodes()
    first = cluster.add()
    process = drive(cluster, "-m", "tune_app", "run", file)
    wait_for("a record", lambda: done(folder) >= 1, process)
    _, worker = frozen_worker(folder, process)
    cluster.add()
    wait_for("work on the new node", lambda: len(places(folder)) >= 2, process)
    cluster.lose(first)
    worker.kill()  # with its machine
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, (out, err)
    assert facts(folder) == facts(finished_search)
    assert all(record.assignment.attempt == 1 for record in records(folder)), "a lost node is no failure of a trial"
    finished = [event["key"] for event in events(folder) if event["event"] == "finish"]
    assert len(finished) == len(set(finished))


def on_two_nodes(
    finished_search: ExperimentFolder, nodes: Callable[..., Nodes], tmp_path: Path
) -> tuple[ExperimentFolder, Path, Nodes]:
    """A new experiment with its baseline, its spec's file, and a cluster to run it on."""
    spec = with_baseline(finished_search, tmp_path / "runs")
    cluster = nodes()
    cluster.add()
    return ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec), cluster


def test_a_lost_head_ends_the_driver_and_a_new_cluster_goes_on(
    finished_search: ExperimentFolder, nodes: Callable[..., Nodes], drive: Driver, tmp_path: Path
) -> None:
    folder, file, cluster = on_two_nodes(finished_search, nodes, tmp_path)
    process = drive(cluster, "-m", "tune_app", "run", file, RAY_gcs_rpc_server_reconnect_timeout_s="20")
    wait_for("two records", lambda: done(folder) >= 2, process)
    _, worker = frozen_worker(folder, process)
    kept = {path.name: path.read_bytes() for path in folder.trials.glob("*.json")}
    cluster.cluster.head_node.kill_gcs_server(check_alive=False)
    out, err = process.communicate(timeout=TIMEOUT_S)
    worker.kill()
    assert process.returncode == 3, (out, err)
    assert "has not answered for 15 s. Finished trials are kept" in err
    again = nodes()
    again.add()
    out, err = drive(again, "-m", "tune_app", "run", file).communicate(timeout=TIMEOUT_S)
    assert "6 complete" in out, err
    assert all((folder.trials / name).read_bytes() == content for name, content in kept.items())
    assert facts(folder) == facts(finished_search)


def test_a_lost_raylet_of_its_own_machine_ends_the_driver(
    finished_search: ExperimentFolder, nodes: Callable[..., Nodes], drive: Driver, tmp_path: Path
) -> None:
    folder, file, cluster = on_two_nodes(finished_search, nodes, tmp_path)
    process = drive(cluster, "-m", "tune_app", "run", file)
    wait_for("a record", lambda: done(folder) >= 1, process)
    _, worker = frozen_worker(folder, process)
    cluster.cluster.head_node.kill_raylet(check_alive=False)
    out, err = process.communicate(timeout=TIMEOUT_S)
    worker.kill()
    assert process.returncode == 3, (out, err)
    assert "error: Ray on this machine at " in err


def test_a_worker_that_hangs_is_ended_and_its_trial_goes_on(
    finished_search: ExperimentFolder, start_cli: Start, tmp_path: Path
) -> None:
    spec = with_baseline(
        finished_search,
        tmp_path / "runs",
        max_concurrent_trials=1,
        epoch_deadline={"least_s": 8, "medians": 5, "first_s": 60},
    )
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    process = start_cli("run", file)
    _, hung = frozen_worker(folder, process)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, (out, err)
    assert not hung.is_running()
    assert facts(folder) == facts(finished_search)


def test_a_full_object_store_slows_nothing_down_for_ever(
    finished_search: ExperimentFolder, nodes: Callable[..., Nodes], drive: Driver, tmp_path: Path
) -> None:
    spec = with_baseline(finished_search, tmp_path / "runs", budget={"trials": 3})
    folder, file = ExperimentFolder(spec.folder), write_spec(tmp_path / "spec.yaml", spec)
    cluster = nodes()
    cluster.add(object_store_memory=80 * 2**20)
    hog = tmp_path / "hog.py"
    hog.write_text(
        "import numpy as np, ray, time\n"
        "ray.init(configure_logging=False, log_to_driver=False)\n"
        "put = ray.remote(num_cpus=0)(lambda: [ray.put(np.ones(2**22)) for _ in range(4)])\n"
        "kept = ray.get(put.remote())\n"
        "print('full', flush=True)\n"
        "time.sleep(600)\n"
    )
    neighbor = drive(cluster, hog)
    assert neighbor.stdout is not None
    assert neighbor.stdout.readline() == "full\n"
    out, err = drive(cluster, "-m", "tune_app", "run", file).communicate(timeout=TIMEOUT_S)
    assert "3 complete" in out, err
    assert len(records(folder)) == 3


SCRIPT = """
import sys
from pathlib import Path

from trainables.errors import OutOfMemory
from tune_app.on_ray.engine import OnRay
from tune_app.run.search import run_search
from tune_app.spec.yaml_file import load_spec
from tune_app.on_ray.worker import TrialWorker


class Tight(TrialWorker):
    '''A GPU on which a trial fits with at least half of it.'''

    def work(self, work, grant):
        if grant.gpu_share < 0.5:
            raise OutOfMemory("simulated")
        return super().work(work, grant)


class Measured(TrialWorker):
    '''A GPU of which every trial takes 30 %.'''

    def open(self, data, *, gpu_share):
        super().open(data, gpu_share=gpu_share)
        object.__setattr__(self._workplace.device, "peak_share", lambda: 0.3)


run_search(load_spec(Path(sys.argv[1])), engine=OnRay(worker={"tight": Tight, "measured": Measured}[sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("worker", "gpu", "shares"),
    [("tight", 0.25, [0.5, 0.5, 0.5]), ("measured", "auto", [1.0, 0.5, 0.5])],
)
def test_shares_of_a_gpu_follow_what_trials_need(
    worker: str,
    gpu: float | str,
    shares: list[float],
    finished_search: ExperimentFolder,
    with_gpu: Nodes,
    drive: Driver,
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {
        "budget": {"trials": 3},
        "resources": {"cpu": 1, "gpu": gpu},
        "worker_retries": 0,
        "max_concurrent_trials": 1,
    }
    spec: ExperimentSpec = with_baseline(finished_search, tmp_path / "runs", **changes)
    file, script = write_spec(tmp_path / "spec.yaml", spec), tmp_path / "search.py"
    script.write_text(SCRIPT)
    process = drive(with_gpu, script, file, worker)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, (out, err)
    found = sorted(records(ExperimentFolder(spec.folder)), key=lambda record: record.assignment.number)
    assert [record.state for record in found] == ["complete"] * 3
    assert [record.gpu_share for record in found] == shares
    assert [record.out_of_memory for record in found] == ([1, 0, 0] if worker == "tight" else [0, 0, 0])
