"""Prometheus and Grafana are found or started, and what was started ends. Both are stand-ins here; the real Prometheus
is asked in tests/cluster/live."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

import tune_app.on_ray.metrics_servers
from cluster.local_cluster import free_port
from tune_app.errors import ClusterUnavailable
from tune_app.on_ray.grafana import as_json
from tune_app.on_ray.metrics_servers import GRAFANA, PROMETHEUS, dashboard_url, is_there, metrics_servers

PROGRAM = """#!{python}
import http.server, json, os, sys
from pathlib import Path

name = Path(sys.argv[0]).name
Path(__file__ + ".json").write_text(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ)}}))
options = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
host, _, port = options.get("web.listen-address", "").rpartition(":")
host, port = host or os.environ["GF_SERVER_HTTP_ADDR"], port or os.environ["GF_SERVER_HTTP_PORT"]
targets = {{"data": {{"activeTargets": [{{"discoveredLabels": {{"__address__": "{target}"}}}}]}}}}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(targets).encode())

    def log_message(self, *_):
        pass

http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""
TARGET = "127.0.0.1:44217"
Install = Callable[..., Path]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """The folder of a Ray's session, as far as it matters here."""
    folder = tmp_path / "session"
    (folder / "metrics/prometheus").mkdir(parents=True)
    (folder / "metrics/grafana/provisioning").mkdir(parents=True)
    (folder / "prom_metrics_service_discovery.json").write_text(json.dumps([{"targets": [TARGET]}]))
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a stand-in, or a program of other text, where programs are found; nothing else is found there."""
    folder = tmp_path / "home/bin"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, text: str = PROGRAM, target: str = TARGET) -> Path:
        place = folder / name
        place.write_text(text.format(python=sys.executable, target=target))
        place.chmod(0o755)
        return place

    return put


@pytest.fixture
def places() -> dict[str, str]:
    return {PROMETHEUS: f"http://localhost:{free_port()}", GRAFANA: f"http://127.0.0.1:{free_port()}/"}


def started_with(program: Path) -> dict[str, object]:
    """What a stand-in was started with."""
    found: dict[str, object] = json.loads(Path(f"{program}.json").read_text())
    return found


def is_open(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def test_both_are_started_on_loopback_and_ended(session: Path, install: Install, places: dict[str, str]) -> None:
    prometheus, grafana = install("prometheus"), install("grafana")
    (grafana.parent.parent / "conf").mkdir()
    (grafana.parent.parent / "conf/defaults.ini").touch()
    with metrics_servers(session, environ=places) as servers:
        assert [(s.name, s.url, s.state, s.runs) for s in servers] == [
            ("Prometheus", places[PROMETHEUS], "started", True),
            ("Grafana", places[GRAFANA].rstrip("/"), "started", True),
        ]
        assert all(map(is_open, places.values()))
        assert dashboard_url(servers[1]) == f"{places[GRAFANA]}d/tuneApp"
    assert not any(map(is_open, places.values()))
    assert not any(server.runs for server in servers)
    port = places[PROMETHEUS].rpartition(":")[2]
    assert started_with(prometheus)["argv"] == [
        f"--config.file={session}/metrics/prometheus/prometheus.yml",
        f"--storage.tsdb.path={session}/metrics/prometheus/{port}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    told = started_with(grafana)
    home = grafana.parent.parent
    assert told["argv"] == ["server", f"--config={session}/metrics/grafana/grafana.ini", f"--homepath={home}"]
    env = told["env"]
    assert isinstance(env, dict)
    assert env["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert env["GF_PATHS_PROVISIONING"] == f"{session}/metrics/grafana/provisioning"
    assert (session / "metrics/grafana/dashboards/tune-app.json").read_text() == as_json()


def test_what_runs_already_is_found_and_left_alone(session: Path, install: Install, places: dict[str, str]) -> None:
    install("prometheus"), install("grafana-server")
    with metrics_servers(session, environ=places):
        with metrics_servers(session, environ=places) as servers:
            assert [server.state for server in servers] == ["ran already"] * 2
        assert all(map(is_open, places.values()))


def test_without_grafana_there_is_prometheus(session: Path, install: Install, places: dict[str, str]) -> None:
    install("prometheus")
    with metrics_servers(session, environ=places) as servers:
        assert [server.name for server in servers] == ["Prometheus"]


def refused(session: Path, environ: dict[str, str]) -> str:
    with pytest.raises(ClusterUnavailable) as caught, metrics_servers(session, environ=environ):
        pass
    return str(caught.value)


def test_a_prometheus_of_somebody_else_is_no_help(
    session: Path, install: Install, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_app.on_ray.metrics_servers.READ_S", 0.5)
    install("prometheus", target="127.0.0.1:1")
    with metrics_servers(session, environ=places):
        said = refused(session, places)
    assert f"does not read this Ray: add the file {session}/prom_metrics_service_discovery.json" in said


def test_where_none_is_installed_that_is_said(session: Path, install: Install, places: dict[str, str]) -> None:
    assert "none is installed here" in refused(session, places)


def test_an_address_elsewhere_is_not_started_here(session: Path, install: Install, places: dict[str, str]) -> None:
    install("prometheus")
    said = refused(session, {**places, PROMETHEUS: "http://127.0.0.2:9"})
    assert said.endswith(f"only http://localhost:PORT is started here: check {PROMETHEUS}.")


@pytest.mark.parametrize(
    "url", ["http://localhost:99999", "http://localhost:abc", "http://[::1", "9090", "http://a..b:1"]
)
def test_what_is_no_address_is_named(url: str, session: Path, install: Install, places: dict[str, str]) -> None:
    install("prometheus")
    assert f"nothing answers at {url}, and only" in refused(session, {**places, PROMETHEUS: url})


def test_something_else_at_the_address_is_named(session: Path, install: Install, places: dict[str, str]) -> None:
    install("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        assert "is neither Prometheus nor Grafana" in refused(session, {**places, PROMETHEUS: url})


def test_two_of_one_ray_share_no_data(session: Path, install: Install, places: dict[str, str]) -> None:
    program = install("prometheus")
    found = []
    for url in (places[PROMETHEUS], f"http://localhost:{free_port()}"):
        with metrics_servers(session, environ={**places, PROMETHEUS: url}):
            found.append(started_with(program)["argv"][1])  # type: ignore[index]
    assert len(set(found)) == 2
    assert len(list((session / "metrics/prometheus").glob("log-*.txt"))) == 2


def test_what_was_started_ends_with_a_parent_that_is_killed(
    session: Path, install: Install, places: dict[str, str]
) -> None:
    install("prometheus")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tune_app.on_ray.metrics_servers import metrics_servers\n"
        f"with metrics_servers(Path({str(session)!r})):\n    print('ready', flush=True)\n    time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **places}, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while is_open(places[PROMETHEUS]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_open(places[PROMETHEUS])


def test_a_session_on_another_machine_is_named(tmp_path: Path) -> None:
    assert "run this on the machine of Ray's head" in refused(tmp_path / "session_x", {})


def test_a_server_that_fails_says_why_and_the_other_one_ends(
    session: Path, install: Install, places: dict[str, str]
) -> None:
    install("prometheus"), install("grafana", f"#!{sys.executable}\nraise SystemExit('no such\\nhome')")
    port = places[GRAFANA].rpartition(":")[2].rstrip("/")
    assert refused(session, places) == (
        f"Grafana does not start: home (all of it: {session}/metrics/grafana/log-{port}.txt)."
    )
    assert not is_open(places[PROMETHEUS])


def test_nothing_of_this_environment_is_lost(session: Path, install: Install, places: dict[str, str]) -> None:
    program = install("prometheus")
    with metrics_servers(session, environ=places):
        pass
    env = started_with(program)["env"]
    assert isinstance(env, dict)
    assert env["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("reads", [True, False])
def test_a_password_in_an_address_is_used_and_not_shown(
    reads: bool, session: Path, install: Install, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("prometheus", target=TARGET if reads else "127.0.0.1:1")
    install("grafana")
    monkeypatch.setattr(tune_app.on_ray.metrics_servers, "READ_S", 0.1)
    with metrics_servers(session, environ=places):
        known = {name: url.replace("http://", "http://me:hunter2@") for name, url in places.items()}
        told = ""
        try:
            with metrics_servers(session, environ=known) as servers:
                told = f"{[(server.name, server.url, server.state) for server in servers]} {dashboard_url(servers[1])}"
        except ClusterUnavailable as err:
            told = str(err)
    assert ("ran already" in told) == reads
    assert "http://***@localhost:" in told
    assert "hunter2" not in told


def test_a_password_in_an_address_where_nothing_answers_is_not_shown(
    session: Path, install: Install, places: dict[str, str]
) -> None:
    address = places[PROMETHEUS].replace("http://", "http://me:hunter2@")
    said = refused(session, {PROMETHEUS: address})
    assert "no Prometheus answers at http://***@localhost" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://head", 443), ("http://head", 80), ("https://head:8265", 8265), ("http://head:8265/", 8265)],
)
def test_an_address_without_a_port_has_that_of_its_scheme(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(place)
        return socket.socket()

    monkeypatch.setattr("tune_app.on_ray.metrics_servers.socket.create_connection", connect)
    assert is_there(url)
    assert asked == [("head", port)]
