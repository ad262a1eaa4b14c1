"""Submission: an experiment as a job that another machine runs, and the jobs that were sent."""

import hashlib
from collections.abc import Sequence

from cluster.errors import NoSuchJob
from cluster.job import Backend, JobHandle, JobSpec
from tune_app.errors import LeaseHeld
from tune_app.on_ray.gpu_shares import MOST
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.terminal.shell import command, watch_command


def job_of(spec: ExperimentSpec, *, attempt: int) -> JobSpec:
    """Returns what a cluster is asked to run; the driver there starts the search or goes on with it."""
    text = dump_spec(spec)
    return JobSpec(
        experiment=spec.name,
        spec_text=text,
        spec_sha256=hashlib.sha256(text.encode()).hexdigest(),
        storage=spec.storage,
        report=watch_command(spec.folder),
        trials=spec.budget.trials,
        on_rungs=None if spec.fidelity is None else spec.space.size,
        cpu=spec.resources.cpu,
        gpu=spec.resources.gpu_at_first,
        gpu_least=1 / MOST if spec.resources.gpu == "auto" else None,
        max_concurrent=spec.max_concurrent_trials,
        attempt=attempt,
        cluster=spec.cluster,
    )


def next_attempt(backend: Backend, experiment: str) -> int:
    """Returns the number of the next job of an experiment.

    Raises:
        LeaseHeld: one of its jobs still runs.
    """
    mine = [handle for handle in backend.list() if handle.experiment == experiment]
    for handle in mine:
        state = backend.status(handle)
        if not state.is_final:
            logs, stop = jobs_command(handle, "logs", "--follow"), jobs_command(handle, "stop")
            raise LeaseHeld(
                f"job {handle.submission_id} of this experiment is {state}: follow it with `{logs}`, "
                f"or stop it first: `{stop}`."
            )
    return 1 + max((_attempt(handle) for handle in mine), default=0)


def jobs_command(job: JobHandle, verb: str, *options: str) -> str:
    """Returns a command about a job, such as `tune-app jobs stop demo-1 --backend ray --address http://head:8265`."""
    where = ["--backend", job.backend, *(["--address", job.address] if job.address else [])]
    return command("jobs", verb, job.submission_id, *options, *where)


def find_job(jobs: Sequence[JobHandle], name: str) -> JobHandle:
    """Returns the job with this id (`demo-2`), else the last one of the experiment of this name (`demo`).

    Raises:
        NoSuchJob: there is none.
    """
    exact = [job for job in jobs if job.submission_id == name]
    found = exact or [job for job in jobs if job.experiment == name]
    if not found:
        known = ", ".join(job.submission_id for job in jobs[:8]) or "none"
        raise NoSuchJob(f"no job or experiment {name!r} was submitted there; there are: {known}.")
    return max(found, key=_attempt)


def _attempt(job: JobHandle) -> int:
    number = job.submission_id.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
