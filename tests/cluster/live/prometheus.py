"""A Prometheus of the tests' own, on loopback, that scrapes what Ray's service discovery file names."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from ruamel.yaml import YAML

from cluster.local_cluster import HOST, free_port

ANSWER_S = 30.0
CONFIG = {
    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
    "scrape_configs": [{"job_name": "ray", "file_sd_configs": [{"files": [""], "refresh_interval": "1s"}]}],
}


class Prometheus:
    """Runs until the context ends."""

    def __init__(self, targets: Path, folder: Path) -> None:
        self._port = free_port()
        config: Any = json.loads(json.dumps(CONFIG))
        config["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(targets)]
        folder.mkdir()
        YAML().dump(config, folder / "prometheus.yml")
        self._command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{self._port}",
            "--log.level=warn",
        ]
        self._log = folder / "log.txt"

    def __enter__(self) -> "Prometheus":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                self.query("vector(1)")
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series."""
        return [(series["metric"], float(series["value"][1])) for series in self._ask("query", query=text)]

    def history(self, text: str) -> list[dict[str, str]]:
        """Labels of each series that had a value in the last quarter of an hour."""
        now = time.time()
        return [series["metric"] for series in self._ask("query_range", query=text, start=now - 900, end=now, step=1)]

    def _ask(self, what: str, **parameters: str | float) -> list[dict[str, Any]]:
        url = f"http://{HOST}:{self._port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found
