"""The report of a running search, on this machine alone."""

import http.client
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.tune_app.factories import make_record
from tests.tune_app.report.factories import point, small
from trainables.errors import ConfigError
from trainables.storage import replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.report.serve import ReportServer, version_of


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    return small(tmp_path).folder


@pytest.fixture
def server(folder: ExperimentFolder) -> Iterator[ReportServer]:
    with ReportServer(folder) as running:
        yield running


def get(server: ReportServer, path: str, host: str = "") -> tuple[int, str]:
    address = urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(address)
    connection.request("GET", path, headers={"Host": host or address})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_page_names_the_version_that_the_server_says(server: ReportServer, folder: ExperimentFolder) -> None:
    status, page = get(server, "/")
    assert status == 200
    assert get(server, "/version") == (200, version_of(folder))
    assert f'data-watch="{version_of(folder)}"' in page


def test_a_new_trial_is_a_new_version_and_a_new_page(server: ReportServer, folder: ExperimentFolder) -> None:
    before = get(server, "/version"), get(server, "/")
    assert (get(server, "/version"), get(server, "/")) == before  # made once
    assert "p0_w2_a4" not in before[1][1]
    assert Ledger(folder.trials).add(make_record(9, point(0.0, 2, 4)))
    assert get(server, "/version") != before[0]
    assert "p0_w2_a4" in get(server, "/")[1]


def test_the_version_changes_with_what_runs_and_with_the_baseline(folder: ExperimentFolder) -> None:
    seen = {version_of(folder)}
    replace(folder.heartbeat("a-full-a1"), b"{}")
    seen.add(version_of(folder))
    folder.baseline_file.unlink()  # type: ignore[union-attr]
    seen.add(version_of(folder))
    assert len(seen) == 3


def test_the_page_changes_with_the_spec_and_with_the_test_split(server: ReportServer, folder: ExperimentFolder) -> None:
    pages = [get(server, "/")[1]]
    spec = folder.read_spec()
    folder.store_spec(spec.model_validate({**spec.model_dump(), "constraints": ["accuracy >= 0.1234"]}))
    pages.append(get(server, "/")[1])
    [trial_id, *_] = (path.stem for path in sorted(folder.trials.glob("*.json")))  # type: ignore[union-attr]
    for place, accuracy in ((folder.artifacts / trial_id, 0.4321), (folder.baseline_file.parent, 0.57)):
        store_held_out(place, HeldOut(accuracy=accuracy, n=10))
        pages.append(get(server, "/")[1])
    assert [[word in page for page in pages] for word in ("0.1234", "0.4321", ", test 57")] == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]


def test_it_listens_on_loopback_alone(server: ReportServer) -> None:
    parts = urlsplit(server.url)
    assert parts.hostname == "127.0.0.1"
    listening = [c.laddr for c in psutil.Process().net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    assert {place.ip for place in listening if place.port == parts.port} == {"127.0.0.1"}


def test_another_site_cannot_read_it_under_a_name_of_its_own(server: ReportServer) -> None:
    assert get(server, "/", host="attacker.example")[0] == 403
    assert get(server, "/version", host="localhost:1234")[0] == 200


@pytest.mark.parametrize("path", ["/experiment.yaml", "/../experiment.yaml", "/version/"])
def test_there_are_two_paths_and_no_files(path: str, server: ReportServer) -> None:
    assert get(server, path)[0] == 404


def test_a_damaged_experiment_is_an_answer_and_not_the_end(server: ReportServer, folder: ExperimentFolder) -> None:
    content = folder.spec_file.read_bytes()  # type: ignore[union-attr]
    replace(folder.spec_file, b"name: 3")
    status, text = get(server, "/")
    assert (status, "stored spec" in text) == (503, True)
    replace(folder.spec_file, content)
    assert get(server, "/")[0] == 200


def test_a_browser_that_goes_away_leaves_no_traceback(server: ReportServer, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        gone = socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it says so at once
        gone.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        gone.close()
    assert get(server, "/")[0] == 200
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_names_that_are_no_utf_8_are_answers_too(folder: ExperimentFolder) -> None:
    place = folder.path.rename(folder.path.parent / os.fsdecode(b"caf\xe9"))  # type: ignore[union-attr]
    moved = ExperimentFolder(place)
    replace(moved.trials / os.fsdecode(b"\xe9.json"), b"{}")
    with ReportServer(moved) as server:
        assert [get(server, path)[0] for path in ("/version", "/")] == [200, 200]
        replace(moved.spec_file, b"name: 3")
        assert (get(server, "/")[0], "caf\\udce9" in get(server, "/")[1]) == (503, True)


def test_a_taken_port_is_refused(server: ReportServer, folder: ExperimentFolder) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(ConfigError, match="give another one"):
        ReportServer(folder, port=port)
