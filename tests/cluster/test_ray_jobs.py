"""The Jobs API behind an address that does not answer, refuses, or answers something else."""

import http.server
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace

import pytest

import cluster.ray_jobs
from cluster.errors import AccessDenied, ClusterError, ClusterUnreachable, NoSuchJob, PlanRefused
from cluster.job import JobHandle
from cluster.ray_jobs import RayBackend
from tests.cluster.factories import make_job

Serve = Callable[..., str]
Seen = list[dict[str, str]]
VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": ""}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_HEADERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that says its version and answers every other request the same way; its address."""
    servers = []

    def start(status: int, body: object = None, *, version: object = VERSION, seen: Seen | None = None) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if seen is not None:
                    seen.append(dict(self.headers))
                asked = self.path == "/api/version" and status not in (401, 403)
                self.send_response(200 if asked else status)
                self.end_headers()
                self.wfile.write(json.dumps(version if asked else body).encode())

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_refused_is_told_about_the_token(status: int, serve: Serve) -> None:
    with pytest.raises(AccessDenied, match="RAY_AUTH_TOKEN") as caught:
        RayBackend(serve(status)).list()
    assert caught.value.exit_code == 3


def test_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ClusterUnreachable, match=rf"127\.0\.0\.1:{port}.*Check --address"):
        RayBackend(f"http://127.0.0.1:{port}").list()


def test_a_port_that_accepts_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray_jobs, "ANSWER_S", 0.5)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        with pytest.raises(ClusterUnreachable):
            RayBackend(f"http://127.0.0.1:{hole.getsockname()[1]}").list()


def test_something_that_is_no_cluster(serve: Serve) -> None:
    with pytest.raises(ClusterUnreachable, match="is not Ray"):
        RayBackend(serve(200, version="<html>")).list()


def test_a_cluster_that_is_unwell(serve: Serve) -> None:
    with pytest.raises(ClusterUnreachable, match="status code 500"):
        RayBackend(serve(500, "no room left")).list()


@pytest.mark.parametrize("name", ["demo-1", "demo-401"])
def test_an_unknown_job(name: str, serve: Serve) -> None:
    backend = RayBackend(serve(404, {"error": f"Job {name} does not exist"}))
    handle = JobHandle(backend="ray", submission_id=name)
    asked: list[Callable[[], object]] = [
        lambda: backend.status(handle),
        lambda: backend.stop(handle),
        lambda: list(backend.logs(handle)),
        lambda: list(backend.logs(handle, follow=True)),
    ]
    for ask in asked:
        with pytest.raises(NoSuchJob, match=name) as caught:
            ask()
        assert caught.value.exit_code == 2


def test_what_ray_says_at_the_end_of_a_stack_trace_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = 'Traceback (most recent call last):\n  File "job_head.py", line 1, in submit_job\n    await submit()\n'
    cause = f"{trace}KeyError: 'demo-1'\n\nDuring handling of the above exception, another exception occurred:\n\n"
    said = f"{cause}{trace}    ^^^^^^^^\nValueError: Job with submission_id demo-1 already exists.\nUse another.\n."

    def refuse() -> None:
        raise RuntimeError(f"Request failed with status code 400: {said}")

    monkeypatch.setattr(RayBackend, "_client", SimpleNamespace(list_jobs=refuse))
    with pytest.raises(ClusterUnreachable) as caught:
        RayBackend("http://head:1").list()
    assert "request: ValueError: Job with submission_id demo-1 already exists. Check --address" in str(caught.value)


def test_a_value_that_is_handed_on_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, runtime_env: dict[str, object], **_: object) -> None:
        raise RuntimeError(f"Traceback (most recent call last):\n  ...\nValueError: what is {runtime_env}?")

    monkeypatch.setattr(RayBackend, "_client", SimpleNamespace(submit_job=refuse))
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    backend = RayBackend("http://head:1")
    with pytest.raises(ClusterUnreachable, match="'WANDB_API_KEY': '\\*\\*\\*'") as caught:
        backend.submit(backend.plan(make_job(cluster={"env": ["WANDB_API_KEY"]})))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("state", ["RUNNING", "FAILED"])
def test_a_log_that_ends_before_its_job_is_no_end(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that closes what is quiet, or a node that is gone, ends Ray's stream as the end of the job does."""

    async def lines(job: str) -> AsyncIterator[str]:
        yield "trial 1\n"

    client = SimpleNamespace(tail_job_logs=lines, get_job_status=lambda job: state)
    monkeypatch.setattr(RayBackend, "_client", client)
    pieces = RayBackend("http://head:1").logs(JobHandle(backend="ray", submission_id="demo-1"), follow=True)
    assert next(pieces) == "trial 1\n"
    if state == "FAILED":
        assert list(pieces) == []
    else:
        with pytest.raises(ClusterUnreachable, match="ended the log of demo-1, which is running: follow it again"):
            next(pieces)


def test_a_given_address_wins_over_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert RayBackend(serve(200, [])).list() == []
    assert RayBackend().address == "http://127.0.0.1:1"


def test_headers_are_handed_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Seen = []
    monkeypatch.setenv("RAY_JOB_HEADERS", '{"X-Proxy": "yes"}')
    RayBackend(serve(200, [], seen=seen)).list()
    assert all(headers.get("X-Proxy") == "yes" for headers in seen)
    assert seen


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: hunter2",
        '"hunter2"',
        '["hunter2"]',
        '{"Authorization": 5}',
        '{"Authorization": "Bearer hunter2\\n"}',
        '{"Authorization": " hunter2"}',
        '{"Authorization": "hunter2\\u2026"}',
        '{"A b": "hunter2"}',
    ],
)
def test_headers_that_no_request_can_carry_are_refused_and_not_repeated(
    text: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", text)
    with pytest.raises(PlanRefused, match="RAY_JOB_HEADERS is no JSON of header names and values") as caught:
        RayBackend(serve(200, [])).list()
    assert "hunter2" not in str(caught.value)


def test_a_certificate_that_is_not_there(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    with pytest.raises(ClusterUnreachable, match=r"/no/such/file\.pem"):
        RayBackend(serve(200, [])).list()


@pytest.mark.parametrize("address", ["http://user:hunter2@127.0.0.1:8265", "user:hunter2@127.0.0.1:8265"])
def test_an_address_with_a_password_is_never_kept(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in (address, ""):
        with pytest.raises(PlanRefused) as caught:
            RayBackend(given)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://", "Check --address"),
        ("http://127.0.0.1:99999", "Check --address"),
        ("http://[::1", "Check --address"),
        ("127.0.0.1:6379", "write it like http://127.0.0.1:8265"),
        ("ray://127.0.0.1:10001", "write it like http://127.0.0.1:8265"),
        ("auto", "write it like http://127.0.0.1:8265"),
        ("no such host:1", "write it like http://127.0.0.1:8265"),
    ],
)
def test_an_address_that_is_none(address: str, words: str) -> None:
    with pytest.raises(ClusterError, match=words) as caught:
        RayBackend(address).list()
    assert len(str(caught.value).splitlines()) == 1
