"""The connection to Ray: a cluster that is there, or one of our own that ends with us."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.job_config import JobConfig

from cluster.errors import PlanRefused, first_line
from cluster.launchable import launchable_here
from cluster.placement import trials_on
from trainables.errors import ConfigError
from trainables.storage import redact
from tune_app.engine.stop_signal import StopSignal, children, end_children, renew_handlers
from tune_app.errors import ClusterUnavailable
from tune_app.on_ray.cluster_watch import ClusterWatch, Watched, head, node
from tune_app.on_ray.gpu_shares import MOST
from tune_app.spec.experiment import ExperimentSpec

HANDLERS_S = 0.02
"""Seconds between two renewals of the handlers of signals while Ray ends; a signal in one that is lost ends the process
with its own code, and without a line."""
CONNECT_S = 10.0
"""Seconds for the head to answer: a slow network answers in less, a wrong address is not waited for."""
# Tune's own files are scratch here: no loggers, no snapshots worth their time, no second handler of Ctrl-C.
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def ray_session(
    *, dashboard: bool = False, address: str = "", job: Mapping[str, str] | None = None
) -> Iterator[StopSignal]:
    """Connects to the cluster of an address, else of RAY_ADDRESS, or starts a Ray of our own that ends with us.

    A process that is connected to a Ray already stays with it. `job` is what Ray's jobs page says of this one.
    """
    os.environ.update({k: v for k, v in TUNE_SETTINGS.items() if k not in os.environ})
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with StopSignal() as stop:
        if ray.is_initialized():
            yield stop
            return
        others = children()
        try:
            with stop.raised():
                url = _connect(address or os.environ.get("RAY_ADDRESS", ""), dashboard=dashboard, job=job or {})
            if dashboard:
                print(f"dashboard: {url} (`ray get-auth-token` shows the token it asks for)", file=sys.stderr)
            with ClusterWatch(head(ray.get_runtime_context().gcs_address), *_own_node(), spared=others):
                yield stop
        finally:
            _shut_down()
            if stop.number is not None:  # a Ray that was cut off while it started does not end all that it began
                end_children(others)


def _own_node() -> list[Watched]:
    """Returns the node that this process is connected to, as far as Ray tells of it."""
    own = ray.get_runtime_context().get_node_id()
    return [node(f"{n['NodeManagerAddress']}:{n['NodeManagerPort']}") for n in ray.nodes() if n["NodeID"] == own]


def _shut_down() -> None:
    """Leaves Ray, and ends it if it was started here; our handlers of signals hold all the while.

    Ray's compiled code takes the handler of SIGTERM away while it ends, and then waits for its processes.
    """
    with ThreadPoolExecutor(1) as thread:
        left = thread.submit(ray.shutdown)
        while not wait([left], timeout=HANDLERS_S).done:
            renew_handlers()
    renew_handlers()
    left.result()


def head_answers() -> bool:
    """Whether the head of the cluster that this process is connected to is there."""
    return head(ray.get_runtime_context().gcs_address).answers()


def fits_in_cluster(spec: ExperimentSpec) -> int:
    """Counts the trials that all nodes hold at the same time, those included that an autoscaler may add.

    With automatic shares of a GPU, how many that may become.
    """
    gpu = 1 / MOST if spec.resources.gpu == "auto" else spec.resources.gpu
    share = {"CPU": spec.resources.cpu, "GPU": gpu}
    live = sum(trials_on(node["Resources"], share) for node in ray.nodes() if node["Alive"])
    return max(1, live, sum(count * trials_on(resources, share) for resources, count in launchable()))


def launchable() -> list[tuple[Mapping[str, float], int]]:
    """Returns resources and greatest number of each kind of node that an autoscaler may have.

    As it told Ray, or else as the environment says.

    Raises:
        ConfigError: the environment says it in a way that cannot be read.
    """
    from ray._private.state import state  # Ray has no public way to ask

    config = state.get_cluster_config()
    groups = [] if config is None else config.node_group_configs
    # A group without a limit counts for one node: it is the search that must not ask for thousands.
    told: list[tuple[Mapping[str, float], int]] = [
        (dict(group.resources), max(1, group.max_count)) for group in groups if group.max_count != 0
    ]
    try:
        return told or launchable_here()
    except PlanRefused as err:
        raise ConfigError(str(err)) from err


def _connect(address: str, *, dashboard: bool, job: Mapping[str, str]) -> str:
    """Starts a Ray, or joins the one at the address, which must answer within CONNECT_S; gives its dashboard's URL."""
    if "://" in address:
        raise ConfigError(
            f"the address of Ray is {redact(address)}, but a search itself joins a cluster at its head's own port, as "
            "in head:6379: send it with `tune-app submit`, or unset RAY_ADDRESS to start Ray here."
        )
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        # Without an address Ray would join whatever cluster was last started on this machine, by anybody.
        own = {} if address else {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
        own |= {"address": address or "local", "job_config": JobConfig(metadata=dict(job))}
        context = ray.init(configure_logging=False, log_to_driver=False, **own)
        with contextlib.suppress(OSError):  # Ray lets everybody read the file of a token that it made itself
            (Path.home() / ".ray" / "auth_token").chmod(0o600)
    except (RayError, OSError, OverflowError, RuntimeError, ValueError) as err:
        raise ClusterUnavailable(
            f"Ray cannot be reached or started ({address or 'on this machine'}): {first_line(err)}. "
            "Check RAY_ADDRESS and RAY_AUTH_TOKEN, or unset them to start Ray here."
        ) from err
    return f"http://{context.dashboard_url}" if context.dashboard_url else "none"
