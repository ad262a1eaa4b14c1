"""Prometheus and Grafana for a Ray on this machine: found where they run, else started, with our dashboard in Grafana.

Ray writes a configuration for both into the folder of its session, and its own dashboard embeds Grafana's charts.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import requests

from trainables.storage import redact
from tune_app.errors import ClusterUnavailable
from tune_app.on_ray.grafana import UID, write_dashboard

LOOPBACK = ("127.0.0.1", "localhost")
PROMETHEUS, GRAFANA = "RAY_PROMETHEUS_HOST", "RAY_GRAFANA_HOST"
"""Variables in which Ray's head is told where both are; without them it looks where they are by default."""
DEFAULTS = {PROMETHEUS: "http://localhost:9090", GRAFANA: "http://localhost:3000"}
TARGETS = "prom_metrics_service_discovery.json"
"""Ray's list of what Prometheus is to read, in the folder of its session."""
HOMES = ("/usr/share/grafana", "/usr/local/share/grafana", "/opt/homebrew/share/grafana")
"""Where packages put Grafana's own files, if they do not lie around its program."""
ASK_S = 3.0
START_S = 60.0
"""Seconds for a server to answer after its start: Grafana makes a database first."""
END_S = 10.0
READ_S = 10.0
"""Seconds in which a Prometheus that was just started has read Ray's list."""
PR_SET_PDEATHSIG = 1
"""Linux's number of this request (`man 2 prctl`)."""
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Server:
    """One of the two servers, as it was found or started."""

    name: str
    url: str
    """Its address; for people without a password, which requests to it may need."""
    process: "subprocess.Popen[bytes] | None" = None
    """What was started here; None: it ran already."""

    @property
    def state(self) -> str:
        """Says how it came about."""
        return "ran already" if self.process is None else "started"

    @property
    def runs(self) -> bool:
        """Whether it still runs, as far as that is ours to know."""
        return self.process is None or self.process.poll() is None

    def end(self) -> None:
        """Ends what was started here."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def metrics_servers(session: Path, *, environ: Mapping[str, str] = os.environ) -> Iterator[list[Server]]:
    """Yields Prometheus, and Grafana where there is one, for the Ray whose session has this folder.

    What is started here listens on loopback, keeps its data in that folder, and ends with the block.

    Raises:
        ClusterUnavailable: the folder is not on this machine; no Prometheus runs and none can be started; one that
            runs does not read this Ray's metrics; a server does not start.
    """
    folder = session / "metrics"
    if not folder.is_dir():
        raise ClusterUnavailable(f"{folder} is not on this machine: run this on the machine of Ray's head.")
    write_dashboard(folder / "grafana/dashboards/tune-app.json")
    prometheus, grafana = (environ.get(name) or url for name, url in DEFAULTS.items())
    with contextlib.ExitStack() as running:
        try:
            servers = [_prometheus(prometheus.rstrip("/"), session)]
            running.callback(servers[0].end)
            if (found := _grafana(grafana.rstrip("/"), folder / "grafana")) is not None:
                running.callback(found.end)
                servers.append(found)
        except ClusterUnavailable as err:
            raise ClusterUnavailable(redact(str(err))) from None
        yield [replace(server, url=redact(server.url)) for server in servers]


def dashboard_url(server: Server) -> str:
    """Returns where a Grafana shows our dashboard."""
    return f"{server.url}/d/{UID}"


def _prometheus(url: str, session: Path) -> Server:
    """Returns the Prometheus that reads this Ray's metrics, or raises ClusterUnavailable."""
    health = f"{url}/api/v1/query?query=vector(1)"
    if _answers(health):
        if not _reads(url, session / TARGETS, wait_s=READ_S):
            raise ClusterUnavailable(
                f"the Prometheus at {url} does not read this Ray: add the file {session / TARGETS} to its "
                f"file_sd_configs, or stop it, or name another address by {PROMETHEUS}."
            )
        return Server("Prometheus", url)
    program = shutil.which("prometheus")
    if program is None:
        raise ClusterUnavailable(
            f"no Prometheus answers at {url}, and none is installed here (there is no program `prometheus`): "
            f"install it, or name the address of one by {PROMETHEUS}, for this command and before Ray starts."
        )
    folder, listens = session / "metrics/prometheus", _listens(url, PROMETHEUS)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / listens.rpartition(':')[2]}",  # two at once have no data in common
        f"--web.listen-address={listens}",
        "--log.level=warn",
    ]
    return _started(Server("Prometheus", url), command, folder, health)


def _grafana(url: str, folder: Path) -> Server | None:
    """Returns a Grafana; None: none runs, and none is installed."""
    health = f"{url}/api/health"
    if _answers(health):
        return Server("Grafana", url)
    program = shutil.which("grafana") or shutil.which("grafana-server")
    if program is None:
        return None
    homes = [Path(program).resolve().parent.parent, *map(Path, HOMES)]
    home = next((f"--homepath={place}" for place in homes if (place / "conf/defaults.ini").is_file()), "")
    command = [program, *(["server"] if Path(program).name == "grafana" else []), f"--config={folder / 'grafana.ini'}"]
    host, _, port = _listens(url, GRAFANA).rpartition(":")
    own = {
        "GF_SERVER_HTTP_ADDR": host,
        "GF_SERVER_HTTP_PORT": port,
        "GF_PATHS_PROVISIONING": folder / "provisioning",  # Ray's own line names the newest session of the machine
        "GF_PATHS_DATA": folder / "data",
        "GF_PATHS_LOGS": folder / "log",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    return _started(Server("Grafana", url), [*command, *([home] if home else [])], folder, health, own)


def _started(
    server: Server, command: Sequence[str], folder: Path, health: str, environ: Mapping[str, object] | None = None
) -> Server:
    """Starts a server and waits until it answers at its address of health, or raises ClusterUnavailable."""
    log = folder / f"log-{urlsplit(server.url).port}.txt"
    variables = {**os.environ, **{key: str(value) for key, value in (environ or {}).items()}}
    with log.open("wb") as file:
        # Ctrl-C is for this program, which ends what it started.
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=variables, start_new_session=True, preexec_fn=_end_with_parent
        )
    server, deadline = replace(server, process=process), time.monotonic() + START_S
    try:
        while not _answers(health):
            if not server.runs or time.monotonic() > deadline:
                last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                raise ClusterUnavailable(f"{server.name} does not start: {last} (all of it: {log}).")
            time.sleep(LOOK_EVERY_S)
    except BaseException:
        server.end()
        raise
    return server


def _listens(url: str, variable: str) -> str:
    """Returns host and port where a server is to listen, or raises ClusterUnavailable: that is not this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if port is None or host not in LOOPBACK or parts.scheme != "http":
        raise ClusterUnavailable(
            f"nothing answers at {url}, and only http://localhost:PORT is started here: check {variable}."
        )
    if is_there(url):
        raise ClusterUnavailable(
            f"what answers at {url} is neither Prometheus nor Grafana: name another address by {variable}."
        )
    return f"{LOOPBACK[0]}:{port}"


def _end_with_parent() -> None:
    """Lets Linux end a process that is about to start when this one ends in any way, killed as well."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_there(url: str) -> bool:
    """Whether anything listens at an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, port), timeout=ASK_S):
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException, ValueError):  # the latter of a name that no host can have
        return requests.get(url, timeout=ASK_S).ok
    return False


def _reads(url: str, targets: Path, *, wait_s: float) -> bool:
    """Whether a Prometheus has any address on its list that Ray has on its own; one that just started has none yet."""
    deadline = time.monotonic() + wait_s
    while not (found := _shares_target(url, targets)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return found


def _shares_target(url: str, targets: Path) -> bool:
    try:
        ours = {address for group in json.loads(targets.read_text("utf-8")) for address in group["targets"]}
        listed = requests.get(f"{url}/api/v1/targets", timeout=ASK_S).json()["data"]["activeTargets"]
        return any(target["discoveredLabels"]["__address__"] in ours for target in listed)
    except (requests.RequestException, OSError, ValueError, KeyError, TypeError):
        return False
