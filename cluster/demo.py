"""A cluster that loses a node in the middle of a search: `python -m cluster.demo SPEC`.

A head and a worker run as separate processes of this machine. The search is sent through the Jobs API and followed;
when half of its trials are done the worker is killed and another one joins. What is left runs there.
"""

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cluster.errors import ClusterError, PlanRefused, first_line
from cluster.local_cluster import POLL_S, LocalCluster

OURS = (sys.executable, "-m", "tune_app")
RAYS_OWN = re.compile(r"\[?\d{4}-\d\d-\d\d |.*\(raylet\)|\s")
"""Lines of Ray in a job's log about the node that is taken away; our own lines tell of it instead."""


def run(spec: Path, folder: Path) -> int:
    """Runs the whole demonstration and returns the exit code of the search.

    Raises:
        ClusterError: the cluster does not start, or the folder holds an earlier run.
    """
    if any(folder.glob("*/trials/*.json")):
        raise PlanRefused(
            f"{folder} holds an earlier run, and nothing would be left to do: remove it, or use --folder."
        )
    with LocalCluster(cpus=2) as cluster:
        say("starting Ray on this machine: a head, which runs no trials, and worker-1")
        cluster.start_head()
        cluster.start_worker("worker-1")
        say(f"its dashboard until the end: {cluster.address} (token: {cluster.token_file})")
        code = show(cluster, spec, folder)
    say("every process of the cluster has ended")
    return code


def show(cluster: LocalCluster, spec: Path, folder: Path) -> int:
    """Sends a search to a cluster that loses its node worker-1; returns the exit code of the search.

    Raises:
        ClusterError: the spec cannot be read, or worker-2 does not start.
    """
    file, experiment, trials = _with_storage(spec, folder)
    say(f"submitting {spec} through the Jobs API; results go to {folder}, the job's log follows")
    _ours(cluster.env, "submit", str(file), "--address", cluster.address)
    results = folder / experiment
    with _following(cluster, experiment) as follower:
        while follower.poll() is None and not _is_half_way(results, trials):
            time.sleep(POLL_S)
        if follower.poll() is None:
            say(f"{_done(results)} of {trials} trials are done and others run: worker-1 is killed, like a lost machine")
            cluster.kill("worker-1")
            cluster.start_worker("worker-2")
            say("worker-2 has joined: what worker-1 was running goes on there, from the last epoch that was saved")
        follower.wait()
    state = _ours(cluster.env, "jobs", "status", experiment, "--address", cluster.address)
    say(f"the job {state}; {_done(results)} of {trials} trials have a record")
    print(_ours(cluster.env, "frontier", str(results)), flush=True)
    return 0 if state == "succeeded" else 4


def say(text: str) -> None:
    """Prints one line about the cluster among those of the search."""
    print(f"[cluster] {text}", flush=True)


def _done(results: Path) -> int:
    return len(list(results.glob("trials/*.json")))


def _is_half_way(results: Path, trials: int) -> bool:
    """Whether half of the trials are done and one that runs has saved an epoch."""
    return _done(results) >= trials // 2 and any(results.glob("stages/progress/*/epoch-*"))


@contextlib.contextmanager
def _following(cluster: LocalCluster, experiment: str) -> Iterator["subprocess.Popen[str]"]:
    """Prints the log of a job among our lines until the job ends."""
    command = [*OURS, "jobs", "logs", experiment, "--follow", "--address", cluster.address]
    follower = subprocess.Popen(
        command, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    )
    echo = threading.Thread(target=_echo, args=(follower.stdout,))
    echo.start()
    try:
        yield follower
        echo.join()
    finally:
        follower.terminate()
        follower.wait()


def _echo(stream: TextIO) -> None:
    with stream:
        for line in stream:
            if not RAYS_OWN.match(line):
                print(line, end="", flush=True)


def _with_storage(spec: Path, folder: Path) -> tuple[Path, str, int]:
    """Returns a copy of the spec whose results go to the folder, its experiment, and its number of trials."""
    try:
        content = YAML().load(spec.read_text("utf-8"))
        name, budget = content["name"], content["budget"]
        trials = budget if isinstance(budget, int) else budget["trials"]
    except OSError as err:
        raise PlanRefused(f"cannot read {spec}: {err.strerror}. Give the path of a spec file.") from err
    except (YAMLError, ValueError, LookupError, TypeError) as err:
        raise PlanRefused(f"{spec} is no spec: {first_line(err)}. `tune-app plan {spec}` says more.") from err
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "spec.yaml"
    YAML().dump({**content, "storage": str(folder)}, target)
    return target, name, trials


def _ours(env: Mapping[str, str], *arguments: str) -> str:
    """Returns what a command of ours prints; if it fails, this process ends as the command did."""
    done = subprocess.run([*OURS, *arguments], env=env, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
        raise SystemExit(done.returncode)
    return done.stdout.rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demonstration from the command line; a signal ends the cluster too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("cluster_demo"), help="where results go")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return run(options.spec, options.folder.resolve())
    except ClusterError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
