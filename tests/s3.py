"""An S3 server of the test session's own, on the loopback: moto's, with conditional writes that are atomic."""

import contextlib
import http.server
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def one_at_a_time(app: App) -> App:
    """moto looks whether an object is there and then writes it; of two threads both may find that it is not."""
    turn = threading.Lock()

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with turn:
            return list(app(environ, start_response))

    return call


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serves until the context ends; the address and keys are in the environment meanwhile."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        try:
            yield address
        finally:
            close_sessions()
            server.shutdown()
            thread.join()
            server.server_close()


def new_bucket(name: str) -> str:
    """The URI of an empty bucket."""
    from trainables.storage import storage_path

    path = storage_path(f"s3://{name}")
    path.fs.call_s3("create_bucket", Bucket=name)  # type: ignore[union-attr]
    return f"s3://{name}"


def close_sessions() -> None:
    """Ends the connections of s3fs in this process; whoever needs one opens a new one."""
    from s3fs import S3FileSystem

    for driver in list(S3FileSystem._cache.values()):
        if driver._s3 is not None:
            S3FileSystem.close_session(driver.loop, driver._s3creator)
    S3FileSystem.clear_instance_cache()


@dataclass(frozen=True)
class Answer:
    """What a scripted server says; a body that is shorter than it claims breaks the connection off."""

    status: int
    body: bytes = b""
    length: int | None = None


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answers requests by a handler, in threads of this process, until the context ends; yields the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def scripted_s3(*script: Answer) -> Iterator[list[str]]:
    """A server that gives these answers in turn, the last one for ever; yields the requests that it gets."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which knows "Expect: 100-continue"

        def answer(self) -> None:
            answer = script[min(len(requests), len(script) - 1)]
            requests.append(f"{self.command} {self.headers.get('If-None-Match', '')}".strip())
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else answer.body)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address, endpoint(address):
        yield requests


@contextlib.contextmanager
def endpoint(address: str, **environment: str | None) -> Iterator[None]:
    """This process speaks to another server meanwhile; None takes a variable out of the environment."""
    close_sessions()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": address, **environment}.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            yield
    finally:
        close_sessions()


def refusal(code: str, message: str = "because") -> bytes:
    """The body of an error."""
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
