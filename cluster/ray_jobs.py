"""Jobs on an existing Ray cluster, through its Jobs API."""

import asyncio
import contextlib
import functools
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field, TypeAdapter, ValidationError

from cluster.credentials import credential_in
from cluster.errors import AccessDenied, ClusterError, ClusterUnreachable, NoSuchJob, PlanRefused, first_line
from cluster.job import SPEC_FILE, Backend, JobHandle, JobSpec, JobState, SubmitPlan
from cluster.working_dir import runtime_env, sent_packages, stage

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ANSWER_S = 10.0
"""Seconds for a first answer; with more, a dead address would hold up every command for longer."""
STOP_S = 30
"""Seconds that a driver has after SIGTERM; it ends within 25."""
OWN = "http://127.0.0.1:8265"
"""Where a cluster on this machine answers, unless it was told otherwise."""
HEADERS = "RAY_JOB_HEADERS"
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^([!-~]([\t -~]*[!-~])?)?$")]
"""What an HTTP header may hold; any other value a client would refuse, and repeat in its error."""
CERTIFICATES = "REQUESTS_CA_BUNDLE"
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client would prefer over the address it is given."""
REFUSED = (401, 403)
"""HTTP codes of a cluster that asks for another token."""
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell of every upload and every end of a stream on standard error."""


class RayBackend(Backend):
    """Sends jobs to the cluster at an address, `http://host:8265`, or the one of RAY_ADDRESS.

    Ray's own variables apply: RAY_AUTH_MODE and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH for the token, RAY_JOB_HEADERS
    (JSON) for what a proxy asks for, REQUESTS_CA_BUNDLE for its certificate.
    """

    def __init__(self, address: str = "") -> None:
        found = address or next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), "")
        if "@" in found or credential_in(found):
            raise PlanRefused(f"an address holds no credentials; Ray reads them from RAY_AUTH_TOKEN or {HEADERS}.")
        self.address = found or OWN

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns the job as Ray would get it; the cluster's nodes are there already."""
        return SubmitPlan(
            backend="ray",
            submission_id=job.submission_id,
            entrypoint=f"python -m tune_app run {SPEC_FILE}",
            runtime_env={**runtime_env(job, Path()), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}},
            env=job.cluster.env,
            packages=sent_packages(job.cluster),
            metadata=job.metadata,
            files={SPEC_FILE: job.spec_text},
            facts={
                "trials": job.trials,
                "cpus_per_trial": job.cpu,
                "gpus_per_trial": job.gpus_per_trial,
                "trials_at_once": job.max_concurrent or "as many as fit",
                "storage": job.storage,
            },
        )

    def submit(self, plan: SubmitPlan) -> JobHandle:
        """Uploads the working directory and starts the driver on the cluster."""
        handed_on = values_of(plan.env)
        client = self._client
        with tempfile.TemporaryDirectory(prefix="tune-app-") as scratch:
            folder = stage(plan, Path(scratch) / "job")
            variables = {**cast("dict[str, str]", plan.runtime_env.get("env_vars", {})), **handed_on}
            with self._explained(hidden=handed_on.values()):
                client.submit_job(
                    entrypoint=plan.entrypoint,
                    submission_id=plan.submission_id,
                    runtime_env={**plan.runtime_env, "working_dir": str(folder), "env_vars": variables},
                    metadata={**plan.metadata, "job_name": plan.metadata.get("experiment", "")},
                    entrypoint_num_cpus=plan.entrypoint_num_cpus or None,
                )
        return self._handle(plan.submission_id, plan.metadata)

    def status(self, handle: JobHandle) -> JobState:
        with self._explained(handle):
            return JobState(str(self._client.get_job_status(handle.submission_id)).lower())

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        client = self._client
        with self._explained(handle):
            if not follow:
                yield client.get_job_logs(handle.submission_id)
                return
            yield from _in_turn(client.tail_job_logs(handle.submission_id))
        if not (state := self.status(handle)).is_final:  # a proxy that closes what is quiet, or a node that is gone
            raise ClusterUnreachable(
                f"{self.address} ended the log of {handle.submission_id}, which is {state}: follow it again."
            )

    def stop(self, handle: JobHandle) -> None:
        with self._explained(handle):
            self._client.stop_job(handle.submission_id)

    def list(self) -> list[JobHandle]:
        """Returns our jobs on the cluster, the newest first."""
        with self._explained():
            found = self._client.list_jobs()
        ours = [job for job in found if job.submission_id and "experiment" in (job.metadata or {})]
        ours.sort(key=lambda job: job.start_time or 0, reverse=True)
        return [self._handle(job.submission_id, job.metadata) for job in ours]

    def dashboard_url(self) -> str:
        """Returns the address of the cluster's dashboard, or raises ClusterError: no cluster answers."""
        return str(self._client.get_address())

    def session_folder(self) -> Path:
        """Returns the folder of Ray's session on the machine of its head, or raises ClusterError: no cluster tells."""
        with self._explained():
            told = self._client._do_request("GET", "/nodes?view=summary")
            told.raise_for_status()
            nodes = [node["raylet"] for node in told.json()["data"]["summary"]]
        heads = [Path(node["sessionDir"]) for node in nodes if node.get("isHeadNode")]
        if not heads:
            raise ClusterUnreachable(f"{self.address} tells of no head: its nodes may still start; try again.")
        return heads[0]

    def _handle(self, submission_id: str, metadata: dict[str, str]) -> JobHandle:
        return JobHandle(
            backend="ray",
            submission_id=submission_id,
            experiment=metadata.get("experiment", ""),
            address=self.address,
        )

    @functools.cached_property
    def _client(self) -> "JobSubmissionClient":
        self._check_address()
        from ray.job_submission import JobSubmissionClient

        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._explained(), _without(ADDRESSES):
            return JobSubmissionClient(self.address, headers=_headers(), verify=os.environ.get(CERTIFICATES) or True)

    def _check_address(self) -> None:
        """Checks that Ray answers at the address: its client would wait for ever, or trip over the answer of
        something else."""
        if not re.match(r"(?i)https?://", self.address):
            raise PlanRefused(f"{self.address!r} is not where a Jobs API answers: write it like {OWN}.")
        import requests

        try:
            answer = requests.get(f"{self.address.rstrip('/')}/api/version", headers=_headers(), timeout=ANSWER_S)
        except (OSError, ValueError) as err:
            raise self._unreachable(err) from err
        if answer.status_code not in REFUSED and b'"ray_version"' not in answer.content:
            raise ClusterUnreachable(f"what answers at {self.address} is not Ray. Check --address or RAY_ADDRESS.")

    @contextlib.contextmanager
    def _explained(self, handle: JobHandle | None = None, *, hidden: Iterable[str] = ()) -> Iterator[None]:
        """Turns Ray's errors into ours, in one line without what is to be hidden."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError

        try:
            yield
        except ClusterError:
            raise
        except AuthenticationError as err:
            raise self._denied() from err
        except (ClientError, OSError, RuntimeError, ValueError) as err:
            status = _status(err)
            if status in REFUSED:
                raise self._denied() from err
            if status == 404 and handle is not None:
                raise NoSuchJob(
                    f"{self.address} knows no job {handle.submission_id!r}: `tune-app jobs list` shows those it has."
                ) from err
            raise self._unreachable(err, hidden) from err

    def _denied(self) -> AccessDenied:
        return AccessDenied(
            f"{self.address} refuses this user: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token "
            "(`ray get-auth-token` on its head shows it)."
        )

    def _unreachable(self, err: Exception, hidden: Iterable[str] = ()) -> ClusterUnreachable:
        said = first_line(err).rstrip(".")
        for value in hidden:
            said = said.replace(value or "\0", "***")
        return ClusterUnreachable(f"{self.address} does not take the request: {said}. Check --address or RAY_ADDRESS.")


def _status(err: Exception) -> int | None:
    """Returns the HTTP status that an error of Ray's client or of its log's stream tells."""
    found = re.search(r"status code (\d{3})", str(err))
    return int(found[1]) if found else getattr(err, "status", None)


def _in_turn(pieces: AsyncIterator[str]) -> Iterator[str]:
    """Yields what an asynchronous iterator gives, as it comes."""

    async def take() -> str | None:
        return await anext(pieces, None)

    with asyncio.Runner() as runner:
        while (piece := runner.run(take())) is not None:
            yield piece


def _headers() -> dict[str, str] | None:
    text = os.environ.get(HEADERS)
    if not text:
        return None
    try:
        return TypeAdapter(dict[HeaderName, HeaderValue]).validate_json(text)
    except ValidationError:  # it repeats what was given, which may be a secret
        raise PlanRefused(
            f'{HEADERS} is no JSON of header names and values: write it like {{"Name": "value"}}.'
        ) from None


def values_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the values of environment variables by name, or raises PlanRefused: one is not set."""
    try:
        return {name: os.environ[name] for name in names}
    except KeyError as err:
        raise PlanRefused(
            f"cluster.env names {err.args[0]}, which is not set here: export it, or take it out."
        ) from err


@contextlib.contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Runs the block without these environment variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
