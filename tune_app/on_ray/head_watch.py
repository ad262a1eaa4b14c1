"""HeadWatch: ends this process with our exit code when the cluster's head is lost, just before Ray ends it with 1."""

import os
import socket
import sys
import threading
import time

from tune_app.errors import ClusterUnavailable

RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's own setting: seconds until a driver whose head does not answer ends itself."""
SHARE = 0.75
"""The share of that time after which we end first: less gives up a head that may return, 1 would be too late."""
EVERY_S = 1.0
"""Seconds between two questions, and for an answer: small against the limit of 45 s."""


class HeadWatch:
    """A context in which a thread asks the head every second whether it is there.

    Ray's compiled core waits for a lost head, so that a head that comes back (KubeRay with Redis) is found, and then
    calls exit(1), which no handler sees.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._limit_s = SHARE * float(os.environ.get(RECONNECT, "60"))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "HeadWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        seen = time.monotonic()
        while not self._over.wait(EVERY_S):
            if self._answers():
                seen = time.monotonic()
            elif time.monotonic() - seen > self._limit_s:
                print(
                    f"error: the cluster's head at {':'.join(map(str, self._place))} has not answered for "
                    f"{self._limit_s:.0f} s. Finished trials are kept; run again to go on.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(ClusterUnavailable.exit_code)

    def _answers(self) -> bool:
        try:
            socket.create_connection(self._place, timeout=EVERY_S).close()
        except OSError:
            return False
        return True
