"""ClusterWatch: ends this process with our exit code when Ray's head or node is lost, before Ray ends it with 1."""

import os
import socket
import threading
import time
from collections.abc import Set
from dataclasses import dataclass

import psutil

from tune_app.engine.stop_signal import leave
from tune_app.errors import ClusterUnavailable

RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's own setting: seconds until a driver whose head does not answer ends itself."""
SHARE = 0.75
"""The share of that time after which we end first: less gives up a head that may return, 1 would be too late."""
EVERY_S = 1.0
"""Seconds between two questions, and for an answer: small against the limits."""
NODE_S = 5.0
"""Seconds after which a lost node is given up, which never returns: Ray ended the driver after 14 s (measured)."""


@dataclass(frozen=True)
class Watched:
    """A server of Ray: what people call it, its address `host:port`, and how long it may be silent."""

    name: str
    address: str
    limit_s: float

    def answers(self) -> bool:
        """Whether a connection is accepted."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=EVERY_S).close()
        except OSError:
            return False
        return True


def head(address: str) -> Watched:
    """Returns the head of a cluster, which may come back within the time that Ray waits for it."""
    return Watched("the cluster's head", address, SHARE * float(os.environ.get(RECONNECT, "60")))


def node(address: str) -> Watched:
    """Returns Ray's own process on this machine (raylet)."""
    return Watched("Ray on this machine", address, NODE_S)


class ClusterWatch:
    """A context in which a thread asks servers every second whether they are there.

    Ray's compiled core waits for a lost head, so that a head that comes back (KubeRay with Redis) is found, and for
    the node, and then calls exit(1), which no handler sees. What this process has started ends with it, other than
    `spared`.
    """

    def __init__(self, *watched: Watched, spared: Set[psutil.Process] = frozenset()) -> None:
        self._watched, self._spared = watched, spared
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "ClusterWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        seen = dict.fromkeys(self._watched, time.monotonic())
        while not self._over.wait(EVERY_S):
            for server in self._watched:
                if server.answers():
                    seen[server] = time.monotonic()
                elif time.monotonic() - seen[server] > server.limit_s:
                    self._end(server)

    def _end(self, server: Watched) -> None:
        line = (
            f"error: {server.name} at {server.address} has not answered for {server.limit_s:.0f} s. "
            "Finished trials are kept; run again to go on."
        )
        leave(line, ClusterUnavailable.exit_code, spared=self._spared)
