"""A proxy in front of an S3 server that refuses requests, and loses or cuts answers, as a seed decides."""

import contextlib
import http.client
import http.server
import random
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.s3 import refusal, serving

SHARE = 0.06
"""Of the requests that something happens to: of five in a row, one in a million meets nothing else."""
FAULTS = ("refused", "unheard", "answer lost", "answer cut")


@contextlib.contextmanager
def bad_line(server: str, seed: int) -> Iterator[tuple[str, Counter[str]]]:
    """Serves until the context ends; yields its address, and how often each fault came."""
    chance, turn, done = random.Random(seed), threading.Lock(), Counter[str]()
    target = urlsplit(server)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with turn:
                fault = chance.choice(FAULTS) if chance.random() < SHARE else ""
                done[fault] += 1
            if fault == "refused":
                self._answer(503, [], refusal("SlowDown"))
            elif fault == "unheard":
                self.close_connection = True
            else:
                self._forward(body, fault)

        def _forward(self, body: bytes, fault: str) -> None:
            line = http.client.HTTPConnection(target.hostname or "", target.port or 80)
            try:
                line.request(self.command, self.path, body, dict(self.headers.items()))
                found = line.getresponse()
                content = found.read()
            finally:
                line.close()
            if fault == "answer lost":
                self.close_connection = True
                return
            self._answer(found.status, found.getheaders(), content, cut=fault == "answer cut")

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
            for name, value in headers:
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or cut

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = pass_on

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as address:
        yield address, done
