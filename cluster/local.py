"""Jobs on this machine: each is a process of its own, which goes on when the terminal closes."""

import codecs
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import ValidationError

from cluster.config import Frozen
from cluster.errors import CorruptJob, FolderUnwritable, NoSuchJob, PlanRefused
from cluster.job import SPEC_FILE, Backend, JobHandle, JobSpec, JobState, SubmitPlan
from cluster.working_dir import write_files

HOME = "TUNE_APP_JOBS"
"""Environment variable: the folder of the jobs of this machine, by default ~/.local/state/tune-app/jobs."""
POLL_S, LOOK_S = 0.5, 0.01
"""Seconds between two looks: at a log, as people read; at a shell that is about to start its command."""
STOP_S = 30.0
"""Seconds that a driver has after SIGTERM; it ends within 25."""
STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit codes of a driver that a signal stopped."""
RUN = '( "$@" > log.txt 2>&1 < /dev/null; echo $? > exit_code ) > /dev/null 2>&1 & echo $!'
"""Runs a command in a shell of its own, whose process id it prints; the exit code outlives it."""


class _Started(Frozen):
    """What this machine remembers of a job."""

    handle: JobHandle
    host: str = ""
    """The machine that runs it, as several may share a home folder; empty: an older version did not note it."""
    pid: int
    after_boot_s: float
    """When the process started; a number alone may name another process later."""
    submitted: float
    """Seconds since the epoch, to list jobs in their order."""
    metadata: dict[str, str]


class LocalBackend(Backend):
    """Starts jobs on this machine; each has a folder with its spec, its log and how it ended."""

    def __init__(self, address: str = "") -> None:
        if address:
            raise PlanRefused("an address is of a cluster: use --backend ray, or leave it out.")
        default = Path.home() / ".local" / "state" / "tune-app" / "jobs"
        self.folder = Path(os.environ.get(HOME) or default)

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns a plan that is the command line of this installation."""
        return SubmitPlan(
            backend="local",
            submission_id=job.submission_id,
            entrypoint=shlex.join([sys.executable, "-m", "tune_app", "run", SPEC_FILE]),
            metadata=job.metadata,
            files={SPEC_FILE: job.spec_text},
            facts={
                "trials": job.trials,
                "cpus_per_trial": job.cpu,
                "gpus_per_trial": job.gpus_per_trial,
                "storage": job.storage,
            },
        )

    def submit(self, plan: SubmitPlan) -> JobHandle:
        """Starts the job in a session of its own; PlanRefused: a job of this name was there before."""
        folder = self.folder / plan.submission_id
        _claim(folder)
        write_files(plan, folder)
        command = ["/bin/sh", "-c", RUN, "sh", *shlex.split(plan.entrypoint)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, start_new_session=True)
        pid = int(done.stdout)
        handle = JobHandle(
            backend="local", submission_id=plan.submission_id, experiment=plan.metadata.get("experiment", "")
        )
        job = _Started(
            handle=handle,
            host=socket.gethostname(),
            pid=pid,
            after_boot_s=_start_of(pid),
            submitted=time.time(),
            metadata=plan.metadata,
        )
        draft = folder / ".job.json"
        draft.write_text(job.model_dump_json(indent=1) + "\n")
        draft.replace(folder / "job.json")
        return handle

    def status(self, handle: JobHandle) -> JobState:
        job = self._find(handle)  # of one elsewhere only its exit code tells
        alive = _is_elsewhere(job) or _process(job) is not None  # asked first: it ends after it has written that
        try:
            code = int((self.folder / handle.submission_id / "exit_code").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return JobState.RUNNING if alive else JobState.FAILED
        if code == 0:
            return JobState.SUCCEEDED
        return JobState.STOPPED if code in STOPPED else JobState.FAILED

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        self._find(handle)
        path = self.folder / handle.submission_id / "log.txt"
        while not path.exists() and not self.status(handle).is_final:
            time.sleep(POLL_S)
        if not path.exists():
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # it keeps half a character until the rest is there
        with path.open("rb") as file:
            while True:
                # Asked before reading: what comes after the end is not missed.
                last = self.status(handle).is_final or not follow
                if piece := decoder.decode(file.read(), last):
                    yield piece
                if last:
                    return
                time.sleep(POLL_S)

    def stop(self, handle: JobHandle) -> None:
        job = self._find(handle)
        if _is_elsewhere(job):
            if self.status(handle).is_final:
                return
            raise PlanRefused(
                f"job {handle.submission_id} runs on {job.host}: stop it there, or remove "
                f"{self.folder / handle.submission_id} if that machine is gone."
            )
        shell = _process(job)
        if shell is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends by itself at this moment
            drivers = _drivers(shell)
            for driver in drivers:
                driver.terminate()
            _, alive = psutil.wait_procs(drivers, timeout=STOP_S)
            for driver in alive:
                driver.kill()
        psutil.wait_procs([shell], timeout=POLL_S)

    def list(self) -> list[JobHandle]:
        """Returns the jobs of this machine, the newest first."""
        jobs = [_read(path) for path in self.folder.glob("*/job.json")]
        return [job.handle for job in sorted(jobs, key=lambda job: job.submitted, reverse=True)]

    def _find(self, handle: JobHandle) -> _Started:
        try:
            return _read(self.folder / handle.submission_id / "job.json")
        except FileNotFoundError as err:
            raise NoSuchJob(
                f"this machine knows no job {handle.submission_id!r}: `tune-app jobs list` shows those it has."
            ) from err


def _claim(folder: Path) -> None:
    """Makes the folder of a job; of two submissions at the same moment one gets it."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as err:
        raise PlanRefused(f"job {folder.name!r} was submitted before: see {folder}, or remove it.") from err
    except OSError as err:
        raise FolderUnwritable(f"cannot write {folder}: {err.strerror}. Name another folder in {HOME}.") from err


def _read(path: Path) -> _Started:
    try:
        return _Started.model_validate_json(path.read_bytes())
    except ValidationError as err:
        raise CorruptJob(f"{path} is damaged or of another version: remove {path.parent}.") from err


def _start_of(pid: int) -> float:
    """Returns when a process started, in seconds after the machine's boot: no change of its clock moves that."""
    try:
        boot = psutil.boot_time()  # first: an older psutil counts from the one that it saw last
        return round(psutil.Process(pid).create_time() - boot, 2)
    except psutil.NoSuchProcess:  # it has ended already
        return -1.0


def _drivers(shell: psutil.Process) -> list[psutil.Process]:
    """Returns what the shell of a job runs: nothing for a moment after its start, and for another before its end."""
    while not (found := shell.children()) and shell.status() != psutil.STATUS_ZOMBIE:
        time.sleep(LOOK_S)
    return found


def _is_elsewhere(job: _Started) -> bool:
    """Whether another machine runs a job, or did."""
    return job.host not in ("", socket.gethostname())


def _process(job: _Started) -> psutil.Process | None:
    """Returns the shell of a job while it lives."""
    try:
        process = psutil.Process(job.pid)
        same = _start_of(job.pid) == job.after_boot_s
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
