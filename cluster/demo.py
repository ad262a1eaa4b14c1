"""A Ray cluster on this machine that loses a node in the middle of a search: `python -m cluster.demo SPEC`.

A head that runs no trials and a worker are separate processes with ports of their own, on loopback, with a token of
their own. The search is submitted through the Jobs API and followed; when half of its trials are done the worker is
killed and another one joins. What is left runs there, and the frontier is printed.
"""

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
START_S = 120.0
POLL_S = 0.5
RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
OURS = (sys.executable, "-m", "tune_app")


@dataclass
class LocalCluster:
    """Ray nodes as processes of this machine; leaving the context ends all of them."""

    cpus: int = 1
    port: int = 0
    dashboard_port: int = 0
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __enter__(self) -> "LocalCluster":
        self.port, self.dashboard_port = free_port(), free_port()
        # Sockets below it have paths of at most 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))
        self.env = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.env.pop("RAY_ADDRESS", None)
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """Of the Jobs API."""
        return f"http://{HOST}:{self.dashboard_port}"

    def start_head(self) -> None:
        """A node that manages and runs no trials."""
        options = ("--head", f"--port={self.port}", "--num-cpus=0", f"--temp-dir={self._folder}")
        dashboard = ("--include-dashboard=true", f"--dashboard-host={HOST}", f"--dashboard-port={self.dashboard_port}")
        self._start("head", *options, *dashboard)
        self.wait_for("head", lambda: _answers(self.dashboard_port))

    def start_worker(self, name: str) -> None:
        """A node that runs trials."""
        self._start(name, f"--address={HOST}:{self.port}", f"--num-cpus={self.cpus}")

    def kill(self, name: str) -> None:
        """Ends a node as a failure does: every process of it, at once."""
        process = self.processes.pop(name)
        for pid in _session(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()

    def wait_for(self, name: str, happened: Callable[[], bool]) -> None:
        """Until then, or until the node ends.

        Raises:
            RuntimeError: the node ended, or nothing happened in time.
        """
        deadline = time.monotonic() + START_S
        while not happened():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray node {name!r} did not start: {self.log(name)[-2000:]}")
            time.sleep(POLL_S)

    def log(self, name: str) -> str:
        """What a node printed."""
        return (self._folder / f"{name}.txt").read_text(errors="replace")

    def _start(self, name: str, *options: str) -> None:
        with (self._folder / f"{name}.txt").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*RAY, "start", "--block", f"--node-ip-address={HOST}", "--disable-usage-stats", *options],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def run(spec: Path, folder: Path) -> int:
    """The whole demonstration; returns the exit code of the search."""
    text = _with_storage(spec, folder)
    with LocalCluster() as cluster:
        say("starting a head and a worker")
        cluster.start_head()
        cluster.start_worker("worker-1")
        where = ("--backend", "ray", "--address", cluster.address)
        _ours(cluster, "submit", str(text), *where)
        experiment, trials = _facts(text)
        follower = threading.Thread(target=_ours, args=(cluster, "jobs", "logs", experiment, "--follow", *where))
        follower.start()
        results = folder / experiment / "trials"
        _until(lambda: len(list(results.glob("*.json"))) >= trials // 2 or not follower.is_alive())
        say(f"{len(list(results.glob('*.json')))} of {trials} trials are done: killing worker-1, starting worker-2")
        cluster.kill("worker-1")
        cluster.start_worker("worker-2")
        follower.join()
        state = _ours(cluster, "jobs", "status", experiment, *where, capture=True)
        say(f"the job {state}, {len(list(results.glob('*.json')))} trials have a record")
    _ours(None, "frontier", str(folder / experiment))
    return 0 if state == "succeeded" else 4


def say(text: str) -> None:
    """One line about the cluster, among those of the search."""
    print(f"[cluster] {text}", flush=True)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _session(leader: int) -> list[int]:
    """Every process of a node: Ray's own and its workers stay in the session of the one that started them."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def _until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(POLL_S)


def _with_storage(spec: Path, folder: Path) -> Path:
    """A copy of the spec whose results go to the folder."""
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(spec.read_text())
    content["storage"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "spec.yaml"
    yaml.dump(content, target)
    return target


def _facts(spec: Path) -> tuple[str, int]:
    from ruamel.yaml import YAML

    content = YAML(typ="safe").load(spec.read_text())
    return content["name"], content["budget"]["trials"]


def _ours(cluster: LocalCluster | None, *arguments: str, capture: bool = False) -> str:
    """A command of ours; what it prints when it is captured."""
    env = dict(os.environ) if cluster is None else cluster.env
    done = subprocess.run([*OURS, *arguments], env=env, stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return (done.stdout or "").strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("cluster_demo"), help="where results go")
    options = parser.parse_args(arguments)
    return run(options.spec, options.folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
