"""A job, the plan of what would be sent, and the protocols of those who plan and send."""

import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol, runtime_checkable

from pydantic import Field, JsonValue, field_validator, model_validator

from cluster.config import ClusterConfig, Frozen
from cluster.credentials import credential_in
from cluster.errors import PlanRefused
from cluster.yaml_text import yaml_text

SPEC_FILE = "spec.yaml"
Facts = dict[str, str | int | float | bool]
SAFE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class JobState(StrEnum):
    """The states of a job, which say how far it is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether no other state can follow."""
        return self not in (JobState.PENDING, JobState.RUNNING)


class JobSpec(Frozen):
    """One run of one experiment on a cluster; `cpu` and `gpu` are what one trial gets."""

    experiment: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    spec_text: str = Field(description="the resolved spec as YAML, with the storage that the nodes use")
    spec_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    storage: str = Field(min_length=1)
    report: str = Field("", description="shell command that shows the job's results while it runs")
    trials: int = Field(ge=1)
    on_rungs: int | None = Field(
        None, ge=1, description="trials that may be on cheaper rungs at the same time; null: there are no such rungs"
    )
    cpu: float = Field(gt=0)
    gpu: float = Field(ge=0)
    gpu_least: float | None = Field(None, gt=0, description="what it may become, as memory allows; null: it stays")
    max_concurrent: int | None = Field(None, ge=1)
    attempt: int = Field(1, ge=1)
    cluster: ClusterConfig = ClusterConfig()

    @property
    def submission_id(self) -> str:
        """The name of this attempt, such as `demo-1`; a later attempt continues the experiment."""
        return f"{self.experiment}-{self.attempt}"

    @property
    def gpus_per_trial(self) -> float | str:
        """What a plan says of the GPUs of a trial."""
        return self.gpu if self.gpu_least is None else "auto"

    @property
    def metadata(self) -> dict[str, str]:
        """The facts that a cluster keeps beside the job."""
        return {
            "experiment": self.experiment,
            "attempt": str(self.attempt),
            "spec_sha256": self.spec_sha256,
            "storage": self.storage,
            "trials": str(self.trials),
            **({"report": self.report} if self.report else {}),
        }

    @model_validator(mode="after")
    def _text_and_digest_agree(self) -> "JobSpec":
        if hashlib.sha256(self.spec_text.encode()).hexdigest() != self.spec_sha256:
            raise ValueError("spec_sha256 is not that of spec_text")
        return self

    @model_validator(mode="after")
    def _holds_no_credential(self) -> "JobSpec":
        for place, text in (("the spec", self.spec_text), ("storage", self.storage)):
            if kind := credential_in(text):
                raise PlanRefused(f"{place} holds what looks like {kind}: specs are stored and sent in the clear.")
        return self


class SubmitPlan(Frozen):
    """All that a backend would send or write; a plan holds names of secrets, never their values."""

    backend: str
    submission_id: str
    entrypoint: str = Field(description="shell command of the driver")
    entrypoint_num_cpus: float = Field(0, description="0 keeps the driver on the head node")
    runtime_env: dict[str, JsonValue] = Field({}, description="Ray's; working_dir is where the files are")
    env: tuple[str, ...] = Field((), description="names of variables that are handed on when it is sent")
    packages: tuple[str, ...] = Field((), description="our packages that travel in working_dir")
    metadata: dict[str, str] = Field({}, description="what the cluster keeps beside the job")
    files: dict[str, str] = Field({}, description="text by relative path")
    commands: tuple[str, ...] = Field((), description="what a person runs in the files' folder, in order")
    facts: Facts = Field({}, description="what decides the bill")

    @field_validator("files")
    @classmethod
    def _stay_in_their_folder(cls, files: dict[str, str]) -> dict[str, str]:
        for path in files:
            if not SAFE_PATH.fullmatch(path):
                raise ValueError(f"a file has a relative path without dots in front, but got {path!r}")
        return files

    def to_yaml(self) -> str:
        """Returns the plan as text for a person and for tests; the same plan gives the same text."""
        content = self.model_dump(mode="json")
        return yaml_text({key: value for key, value in content.items() if value not in ({}, [])})


class JobHandle(Frozen):
    """A job that was sent, by the names under which it is found again."""

    backend: str
    submission_id: str
    experiment: str = ""
    address: str = Field("", description="where the cluster answers; empty: on this machine")


class Planner(Protocol):
    """Says what would be sent to one kind of cluster; a person runs the commands."""

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns the plan of a job, without any I/O, or raises PlanRefused: it cannot run there as configured."""


@runtime_checkable
class Backend(Planner, Protocol):
    """A planner that also sends jobs and follows them."""

    def submit(self, plan: SubmitPlan) -> JobHandle:
        """Sends the job of a plan, or raises ClusterError: it was not taken."""

    def status(self, handle: JobHandle) -> JobState:
        """Returns how far a job is, or raises NoSuchJob: the cluster does not know it."""

    def logs(self, handle: JobHandle, *, follow: bool = False) -> Iterator[str]:
        """Yields what the driver printed, piece by piece; with `follow` until the job ends."""

    def stop(self, handle: JobHandle) -> None:
        """Ends the driver as Ctrl-C does: what is finished stays."""

    def list(self) -> list[JobHandle]:
        """Returns the jobs that the cluster knows, the newest first."""
