"""As much of W&B's server as one run needs: it keeps what is sent, and says how far a run is that goes on."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeServer:
    """Rows of history by run id."""

    url: str = ""
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    begun: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each run was begun with."""
    exit_codes: dict[str, int] = field(default_factory=dict)

    def steps(self, run_id: str) -> list[int]:
        """Of the rows that arrived, in their order."""
        return [row["_step"] for row in self.history.get(run_id, [])]

    def answer(self, query: str, values: dict[str, Any], host: str) -> dict[str, Any]:
        """To GraphQL."""
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": self._begin(values), "inserted": True, "updated": True}}
        if "RunResumeStatus" in query:
            run = values["name"]
            return {"model": {**_PROJECT, "bucket": self._status(run) if run in self.begun else None}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"http://{host}/file/{name}"} for name in values["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}

    def take(self, run_id: str, body: dict[str, Any]) -> None:
        """A piece of a run's stream."""
        files = body.get("files", {})
        piece = files.get("wandb-history.jsonl")
        if piece is not None:
            rows = self.history.setdefault(run_id, [])
            assert piece["offset"] == len(rows), "W&B goes on where its server is"
            rows += [json.loads(line) for line in piece["content"]]
        if body.get("complete"):
            self.exit_codes[run_id] = body["exitcode"]

    def _begin(self, values: dict[str, Any]) -> dict[str, Any]:
        self.begun.setdefault(values["name"], values)
        about = {"id": "b", "name": values["name"], "displayName": "", "description": "", "config": "{}"}
        return {**about, "sweepName": None, "historyLineCount": 0, "project": _PROJECT}

    def _status(self, run_id: str) -> dict[str, Any]:
        rows = self.history.get(run_id, [])
        tail = [json.dumps(row) for row in rows[-1:]]
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"summaryMetrics": "{}", "config": "{}", "eventsTail": "[]", "historyTail": json.dumps(tail)}
        return {"id": "b", "name": run_id, "displayName": "", "tags": [], "wandbConfig": '{"t": 1}', **counts, **texts}


_PROJECT = {"id": "p", "name": "tune-app", "entity": {"id": "e", "name": "me"}}


@contextmanager
def fake_wandb() -> Iterator[FakeServer]:
    """A server on loopback."""
    state = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._send(b"")

        def do_PUT(self) -> None:
            self._body()
            self._send(b"")

        def do_POST(self) -> None:
            body = json.loads(self._body() or b"{}")
            if self.path == "/graphql":
                found = state.answer(body["query"], body.get("variables", {}), self.headers["Host"])
                self._send(json.dumps({"data": found}).encode())
            else:
                state.take(self.path.split("/")[-2], body)
                self._send(b'{"exitcode": null, "limits": {}}')

        def _body(self) -> bytes:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

        def _send(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
