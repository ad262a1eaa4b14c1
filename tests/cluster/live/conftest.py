"""One cluster for the tests of this folder: it lost a node while a search ran, and Prometheus watched."""

import contextlib
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import demo
from cluster.local_cluster import LocalCluster
from tests.cluster.live.prometheus import Prometheus
from tests.specs import tiny_spec, write_spec
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec

# Ray hands the numbers of a process on every ten seconds by default: as long as a whole search takes here.
SETTINGS = {"RAY_metrics_report_interval_ms": "1000"}
TRIALS = 3


@dataclass(frozen=True)
class Shown:
    """What the demonstration left behind, and its cluster, which still runs."""

    cluster: LocalCluster
    prometheus: Prometheus | None
    spec_file: Path
    code: int
    printed: str

    def get(self, path: str) -> Any:
        """What the dashboard answers."""
        token = f"Bearer {self.cluster.token_file.read_text()}"
        request = urllib.request.Request(f"{self.cluster.address}{path}", headers={"Authorization": token})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    @property
    def spec(self) -> ExperimentSpec:
        return load_spec(self.spec_file)

    @property
    def folder(self) -> ExperimentFolder:
        return ExperimentFolder(self.spec.folder)


def live_spec(storage: Path, *, name: str, epochs: int, **changes: Any) -> ExperimentSpec:
    """A small search, one trial at a time; `epochs` are those of its quantization-aware training."""
    base = tiny_spec(storage).model_dump(mode="json")["base"]
    base["quantize"]["schedule"]["epochs"] = epochs
    return tiny_spec(storage, name=name, base=base, max_concurrent_trials=1, **changes)


@pytest.fixture(scope="package")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The demonstration in small."""
    place = tmp_path_factory.mktemp("shown")
    spec = write_spec(place / "small.yaml", live_spec(place, name="demo", epochs=4, budget={"trials": TRIALS}))
    with LocalCluster(settings=SETTINGS) as cluster, contextlib.ExitStack() as beside:
        cluster.start_head()
        cluster.start_worker("worker-1")
        prometheus = None
        if shutil.which("prometheus"):
            targets = cluster.folder / "head/prom_metrics_service_discovery.json"
            prometheus = beside.enter_context(Prometheus(targets, place / "prometheus"))
        with (place / "printed.txt").open("w") as file, contextlib.redirect_stdout(file):
            code = demo.show(cluster, spec, place / "results")
        yield Shown(cluster, prometheus, place / "results/spec.yaml", code, (place / "printed.txt").read_text())
    assert not cluster.folder.exists()
    assert not [process for process in psutil.process_iter() if _belongs_to(process, cluster.folder)]


@pytest.fixture(autouse=True)
def user(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process have the cluster's token, and find nothing else in the environment."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_JOB_HEADERS", token_header(shown.cluster.token_file.read_text()))


def token_header(token: str) -> str:
    """What a client sends."""
    return json.dumps({"Authorization": f"Bearer {token}"})


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(str(folder) in argument for argument in process.cmdline())
    return False
