"""OnRay: trials as Ray Tune's, on the cluster of RAY_ADDRESS or on this machine."""

import contextlib
import gc
import math
import sys
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.errors import first_line
from trainables.errors import TuneAppError
from tune_app.engine.baseline import prepare
from tune_app.engine.engine import ReadySearch
from tune_app.engine.live_view import LiveView
from tune_app.engine.preflight import refuse
from tune_app.engine.stop_signal import StopSignal
from tune_app.errors import ClusterUnavailable
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray.driver import Driver
from tune_app.on_ray.node_probes import check_cluster
from tune_app.on_ray.session import ray_session
from tune_app.on_ray.worker import TrialWorker
from tune_app.spec.experiment import ExperimentSpec
from tune_app.terminal.shell import watch_command

POLL_S = 0.3
"""Seconds between two looks for a stop signal while the baseline trains: Ctrl-C seems to act at once."""


class OnRay:
    """The engine of a search as people run it.

    `worker` runs the trials and writes their records. A Ray that is started here gets a `dashboard` if wanted.
    `address` is that of a cluster's head, as in `head:6379`; empty: RAY_ADDRESS.
    """

    def __init__(self, *, worker: type[TrialWorker] = TrialWorker, dashboard: bool = False, address: str = "") -> None:
        self._worker, self._dashboard, self._address = worker, dashboard, address
        self._stop = StopSignal()

    @contextlib.contextmanager
    def session(self, spec: ExperimentSpec) -> Iterator[None]:
        """Returns a context that is connected to Ray, whose jobs page names the experiment."""
        with (
            ray_session(dashboard=self._dashboard, address=self._address, job=_job(spec)) as self._stop,
            _served(spec) if self._dashboard else contextlib.nullcontext(),
        ):
            yield

    def prepare(self, spec: ExperimentSpec, view: LiveView) -> tuple[BaselineInfo, Any]:
        """Loads the data once and makes the baseline, in a worker; returns the data's object reference."""
        view.phase("asking every node")
        refuse(check_cluster(spec))
        cpu, gpu = _share(spec)
        name = f"data and baseline of {spec.name}"
        task = ray.remote(num_returns=2, num_cpus=cpu, num_gpus=gpu, name=name)(_prepare_in_worker)
        data, info = task.remote(spec.model_dump_json(), cpu, gpu)
        try:
            with view.making_baseline():
                while not ray.wait([info], timeout=POLL_S)[0]:
                    self._stop.check()
            return ray.get(info), data
        except RayTaskError as err:
            if isinstance(err.cause, TuneAppError):
                raise err.cause from None
            raise
        except RayError as err:
            raise ClusterUnavailable(f"the baseline's worker was lost: {first_line(err)}. Run again to go on.") from err

    def run(self, search: ReadySearch, data: Any) -> None:
        """Lets Tune drive the proposer."""
        Driver(search, self._stop, self._worker).fit(data)


@contextlib.contextmanager
def _served(spec: ExperimentSpec) -> Iterator[None]:
    """Serves the report on loopback while a search runs."""
    from tune_app.report.serve import ReportServer

    with ReportServer(ExperimentFolder(spec.folder)) as server:
        print(f"live report: {server.url}", file=sys.stderr, flush=True)
        yield


def _job(spec: ExperimentSpec) -> dict[str, str]:
    """Returns what Ray's jobs page says of a search that was not submitted; what `submit` says goes before it."""
    facts = {"job_name": spec.name, "experiment": spec.name, "storage": spec.storage, "trials": str(spec.budget.trials)}
    return {**facts, "report": watch_command(spec.folder)}


def _share(spec: ExperimentSpec) -> tuple[float, float]:
    """Returns the CPUs and GPUs that the baseline holds: a whole node's where nothing runs, else a trial's.

    A whole node that is busy may not come free before other people's work ends.
    """
    cpu, gpu = spec.resources.cpu, spec.resources.gpu_at_first
    if read_baseline(ExperimentFolder(spec.folder)) is not None:
        return cpu, gpu
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    whole = max((node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) >= math.ceil(gpu)), default=0.0)
    everything, free = ray.cluster_resources(), ray.available_resources()
    idle = all(free.get(kind, 0.0) == everything.get(kind, 0.0) for kind in ("CPU", "GPU"))
    return (whole, math.ceil(gpu)) if idle and whole >= cpu else (cpu, gpu)


def _prepare_in_worker(spec_json: str, cpu: float, gpu: float) -> tuple[Any, BaselineInfo]:
    spec = ExperimentSpec.model_validate_json(spec_json)
    info, data = prepare(spec, cores=cpu, gpu=gpu)
    gc.freeze()  # Ray ends this process while the first workers start: it has no need to look for garbage then
    return data, info
