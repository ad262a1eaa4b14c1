from pathlib import Path
from typing import Any

import pytest
import ray

from tests.tune_app.factories import make_spec, store_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray.engine import _share

CPUS, GPUS = {"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0}
SHARES: dict[str, tuple[dict[str, Any], list[dict[str, float]], dict[str, float], tuple[float, float]]] = {
    "the largest node": ({"cpu": 1}, [CPUS, GPUS], {}, (8, 0)),
    "one with a GPU, all of it": ({"cpu": 1, "gpu": 0.25}, [CPUS, GPUS], {}, (4, 1)),
    "two GPUs stay two": ({"cpu": 1, "gpu": 2}, [CPUS, GPUS], {}, (4, 2)),
    "auto": ({"cpu": 1, "gpu": "auto"}, [CPUS, GPUS], {}, (4, 1)),
    "cores are busy": ({"cpu": 1, "gpu": 0.25}, [CPUS, GPUS], {"CPU": 0.5}, (1, 0.25)),
    "a GPU is busy": ({"cpu": 1}, [CPUS, GPUS], {"GPU": 0.5}, (1, 0)),
    "nodes that are still to come": ({"cpu": 2}, [{"CPU": 0.0}], {}, (2, 0)),
    "no node": ({"cpu": 2, "gpu": 1}, [CPUS], {}, (2, 1)),
}


@pytest.mark.parametrize("case", SHARES)
def test_a_baseline_takes_a_whole_node_where_nothing_runs(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, nodes, busy, expected = SHARES[case]
    everything = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    monkeypatch.setattr(ray, "cluster_resources", lambda: everything)
    free = {kind: count - busy.get(kind, 0.0) for kind, count in everything.items()}
    monkeypatch.setattr(ray, "available_resources", lambda: {kind: count for kind, count in free.items() if count})
    spec = make_spec(tmp_path, resources=resources)
    assert _share(spec) == expected
    store_baseline(ExperimentFolder(spec.folder))
    assert _share(spec) == (spec.resources.cpu, spec.resources.gpu_at_first)
