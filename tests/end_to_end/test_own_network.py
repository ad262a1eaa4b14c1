"""A search with a network of one's own on a cluster whose nodes do not have its code."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.specs import tiny_spec
from trainables.export.packed import unpack
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.spec.yaml_file import dump_spec

pytestmark = pytest.mark.ray
TIMEOUT_S = 300
CODE = """
from torch import nn


class Small(nn.Sequential):
    def __init__(self, width):
        block = [nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.BatchNorm2d(width), nn.Hardswish()]
        super().__init__(nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU(), *block)
        self.extend([nn.Conv2d(width, 2 * width, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        self.append(nn.Linear(2 * width, 10))
"""


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """The address of a cluster with two nodes of one CPU each; its head runs no trials."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def test_nodes_need_no_code_of_the_network(
    two_nodes: str, start_python: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    code, file = tmp_path / "own_nets.py", tmp_path / "spec.yaml"
    code.write_text(CODE)
    spec = tiny_spec(tmp_path / "runs")
    base = spec.base.model_dump()
    base["baseline"].pop("model")
    base["baseline"] |= {"network": "own_nets:Small", "arguments": {"width": 16}}
    base["prune"]["groups"] = "all"
    file.write_text(dump_spec(tiny_spec(tmp_path / "runs", base=base)))
    process = start_python("-m", "tune_app", "run", file, RAY_ADDRESS=two_nodes)
    deadline = time.monotonic() + TIMEOUT_S
    while not list(tmp_path.glob("runs/networks/*.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    code.unlink()
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, (out, err)
    folder = ExperimentFolder(spec.folder)
    records, _ = Ledger(folder.trials).read()
    assert [record.state for record in records] == ["complete"] * 6
    places = {json.loads(path.read_text())["node_id"] for path in folder.heartbeats.glob("*.json")}
    assert len(places) <= 2
    assert "own_nets:Small" in json.loads(folder.baseline_file.read_text())["imported"]
    for record in records:
        packed = unpack(folder.packed_file(record.assignment.trial_id).read_bytes())
        assert packed.header.architecture.model.graph
    again = start_python("-m", "tune_app", "run", file, RAY_ADDRESS=two_nodes)
    out, err = again.communicate(timeout=TIMEOUT_S)
    assert again.returncode == 0, (out, err)
    assert "6 trials (0 new)" in out
