"""A Ray cluster of separate processes on this machine, with ports, a token and a folder of its own.

Nodes come and go as machines do, and all of them end with the context. Dashboard, Jobs API and clients' port listen on
loopback. Ray opens its ports between nodes on every interface, and asks there for the token; metrics it gives to all.
"""

import contextlib
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from cluster.errors import ClusterUnreachable

HOST = "127.0.0.1"
MANY = sys.platform == "linux"
"""Loopback has many addresses, of which each node gets one: 127.0.0.1 Ray takes for the machine's outer address."""
START_S, END_S = 120.0, 30.0
"""Seconds that a node may take to start, which on a loaded machine is half a minute, and to end."""
NODE = "TUNE_APP_NODE"
"""The variable that names its node in the environment of every process of the node."""
POLL_S = 0.1
"""Seconds between two looks at a process that starts or ends."""
RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
STARTED = "Ray runtime started."
"""What a node prints once it has joined the cluster."""
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "5",
}
"""How a lost node is noticed after seconds: on loopback, one that refuses connections has ended."""


class LocalCluster:
    """A Ray cluster on this machine: a head that runs no trials, and workers. `settings` are variables of every
    node."""

    def __init__(self, *, cpus: int = 1, settings: Mapping[str, str] | None = None) -> None:
        self._cpus, self._settings = cpus, settings or {}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._addresses = map("127.0.0.{}".format, itertools.count(2)) if MANY else itertools.repeat(HOST)

    def __enter__(self) -> "LocalCluster":
        self._dashboard_port = free_port()
        # Ray's sockets lie in it, and the path of a socket has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))
        self.token_file = self.folder / "token"
        with open(os.open(self.token_file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
        self.env = _environment(self.token_file, self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._nodes)):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """The address of the Jobs API and of the dashboard."""
        return f"http://{HOST}:{self._dashboard_port}"

    def start_head(self) -> None:
        """Starts the node that manages and runs drivers but no trials; a driver finds it by its address in RAY_ADDRESS.

        Raises:
            ClusterUnreachable: it does not start.
        """
        ip, port = next(self._addresses), free_port()
        self.ray_address = f"{ip}:{port}"
        ports = (f"--port={port}", f"--ray-client-server-port={free_port()}")
        dashboard = ("--include-dashboard=true", f"--dashboard-host={HOST}", f"--dashboard-port={self._dashboard_port}")
        self._start("head", ip, "--head", "--num-cpus=0", *ports, *dashboard)

    def start_worker(self, name: str) -> None:
        """Starts a node that runs trials, or raises ClusterUnreachable: it does not start."""
        self._start(name, next(self._addresses), f"--address={self.ray_address}", f"--num-cpus={self._cpus}")

    def kill(self, name: str) -> None:
        """Ends a node as a failure does: every process of it, at once."""
        node = self._nodes.pop(name)
        deadline = time.monotonic() + END_S
        while (left := _processes(node.pid, str(self.folder / name))) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=POLL_S)
        node.wait()

    def _start(self, name: str, ip: str, *options: str) -> None:
        log = self.folder / f"{name}.txt"
        own = (
            f"--node-ip-address={ip}",
            f"--dashboard-agent-listen-port={free_port()}",
            # As on machines of their own: in one folder a node that joins would replace what a job's driver works in.
            f"--temp-dir={self.folder / name}",
            "--disable-usage-stats",
        )
        with log.open("wb") as file:
            node = subprocess.Popen(
                [*RAY, "start", "--block", *own, *options],
                env={**self.env, NODE: str(self.folder / name)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._nodes[name] = node
        deadline = time.monotonic() + START_S
        while STARTED not in log.read_text("utf-8", errors="replace"):
            if node.poll() is not None or time.monotonic() > deadline:
                said = " ".join(log.read_text("utf-8", errors="replace")[-500:].split())
                raise ClusterUnreachable(f"Ray node {name!r} did not start within {START_S:g} s; it said: {said}")
            time.sleep(POLL_S)


def free_port() -> int:
    """Returns a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _environment(token_file: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of nodes and clients: nothing of another cluster, and this Python first."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **outer,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        **HEALTH,
        **settings,
    }


def _processes(leader: int, name: str) -> list[psutil.Process]:
    """Every process of a node: of its session, what these started, such as drivers in sessions of their own, and
    what was started while its parent ended. Ray's workers write over their environment, so that alone would not do.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            ours = os.getsid(process.pid) == leader or process.environ().get(NODE) == name
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(found))
