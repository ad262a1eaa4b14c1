"""The report of a running search, served on this machine alone; its page looks for newer trials and loads again."""

import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trainables.errors import ConfigError, TuneAppError
from trainables.printable import printable
from trainables.storage import names, read_many, sha256
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.test_results import NAME as TESTED
from tune_app.ledger.test_results import tested_ids
from tune_app.report.build import build_report
from tune_app.report.section import Section

LOOPBACK = "127.0.0.1"


def version_of(folder: ExperimentFolder) -> str:
    """Returns 16 hex digits that change with every trial that starts or ends, with the baseline and its epochs, with
    the stored spec and with results on the test split.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    ended, running = names(folder.trials, "*.json"), names(folder.heartbeats, "*.json")
    once = [folder.spec_file, folder.baseline_file, folder.baseline_file.parent / TESTED]
    spec, baseline, tested = (content if isinstance(content, bytes) else b"" for content in read_many(once))
    epochs = [] if baseline else names(folder.stages / "progress", "*/epoch-*.safetensors")
    parts = [*(sha256(content) for content in (spec, baseline, tested)), *tested_ids(folder)]
    shown = [*ended, "", *running, "", *parts, "", *epochs]
    return sha256("\n".join(shown).encode(errors="surrogateescape"))[:16]


class _Server(ThreadingHTTPServer):
    """A server to which a browser that goes away before it has its answer is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ReportServer:
    """A context that serves one experiment on loopback; `url` says where."""

    def __init__(self, folder: ExperimentFolder, *, port: int = 0, extra: Sequence[Section] = ()) -> None:
        """Opens a port of loopback; 0 takes a free one.

        Raises:
            ConfigError: the port is taken.
        """
        self._folder, self._extra = folder, extra
        self._lock = threading.Lock()
        self._made: tuple[str, bytes] = ("", b"")
        try:
            self._server = _Server((LOOPBACK, port), _handler(version=self._version, page=self._page))
        except OSError as err:
            raise ConfigError(
                f"port {port} cannot be opened ({err.strerror}): give another one, or 0 for a free one."
            ) from err
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}/"

    def __enter__(self) -> "ReportServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self) -> None:
        """Waits until the process is interrupted."""
        self._thread.join()

    def _version(self) -> bytes:
        return version_of(self._folder).encode()

    def _page(self) -> bytes:
        """Returns the page of the newest version; it is made once for all who ask."""
        with self._lock:
            # Looked up before the records are read: a trial that ends meanwhile makes the page load once more.
            version = version_of(self._folder)
            if version != self._made[0]:
                self._made = (version, build_report(self._folder, extra=self._extra, watch=version).encode())
            return self._made[1]


def _handler(version: Callable[[], bytes], page: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    answers = {"/": (page, "text/html; charset=utf-8"), "/version": (version, "text/plain; charset=utf-8")}

    class Handler(BaseHTTPRequestHandler):
        """Answers two paths, to browsers that came to this address by its own name."""

        def do_GET(self) -> None:
            # A page of another site may lead a browser here under a name of its own; it must not read the answer.
            if self.headers.get("Host", "").partition(":")[0] not in (LOOPBACK, "localhost"):
                self._send(HTTPStatus.FORBIDDEN, b"this server answers to 127.0.0.1 only\n")
            elif self.path not in answers:
                self._send(HTTPStatus.NOT_FOUND, b"there is / and /version\n")
            else:
                make, kind = answers[self.path]
                try:
                    self._send(HTTPStatus.OK, make(), kind)
                except TuneAppError as err:
                    self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{printable(str(err))}\n".encode())

        def _send(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: what is asked here concerns nobody."""

    return Handler
