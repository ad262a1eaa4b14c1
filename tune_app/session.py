"""The connection to Ray: a cluster that is there, or one of our own that ends with us."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import ray
from ray.exceptions import RayError

from trainables.errors import ConfigError
from tune_app.errors import ClusterUnavailable
from tune_app.experiment import ExperimentSpec
from tune_app.signals import StopSignal

CONNECT_S = 10.0
# Tune's own files are scratch here: no loggers, no snapshots worth their time, no second handler of Ctrl-C.
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def ray_session(spec: ExperimentSpec) -> Iterator[StopSignal]:
    """A connection to the cluster of RAY_ADDRESS, or a Ray of our own that ends with us."""
    os.environ.update({k: v for k, v in TUNE_SETTINGS.items() if k not in os.environ})
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with StopSignal() as stop:
        if ray.is_initialized():
            _check_resources(spec)
            yield stop
            return
        try:
            _connect(os.environ.get("RAY_ADDRESS", ""))
            stop.arm()
            stop.check()
            _check_resources(spec)
            yield stop
        finally:
            ray.shutdown()


def fits_in_cluster(spec: ExperimentSpec) -> int:
    """How many trials all nodes hold at the same time."""
    share = {"CPU": spec.resources.cpu, "GPU": spec.resources.gpu}
    fits = [
        min(int(node["Resources"].get(kind, 0) / need + 1e-9) for kind, need in share.items() if need > 0)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return max(1, sum(fits))


def first_line(err: BaseException) -> str:
    """What an error says, in one line."""
    return (str(err).strip().splitlines() or [type(err).__name__])[0]


def _check_resources(spec: ExperimentSpec) -> None:
    """Refuses a trial that no node can hold, instead of waiting for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, need in (("CPU", spec.resources.cpu), ("GPU", spec.resources.gpu)):
        largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if need > largest:
            raise ConfigError(
                f"a trial needs {need:g} {kind}, but the largest node of the cluster has {largest:g}: "
                f"lower resources.{kind.lower()} or join a larger cluster."
            )


def _connect(address: str) -> None:
    """Starts a Ray without dashboard, or joins the one at the address, which must answer within CONNECT_S."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        own = {} if address else {"include_dashboard": False}
        ray.init(configure_logging=False, log_to_driver=False, **own)
    except (RayError, OSError, OverflowError, RuntimeError) as err:
        raise ClusterUnavailable(
            f"Ray cannot be reached or started ({address or 'on this machine'}): {first_line(err)}. "
            "Check RAY_ADDRESS, or unset it to start Ray here."
        ) from err
