"""ClusterConfig: the `cluster:` section of a spec, what machines a search may use.

It names secrets and environment variables and never holds their values; there is no field that opens a port.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cluster.credentials import credential_in, strings_in

KubernetesName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=63)]
"""A DNS label, or the empty string."""
CloudName = Annotated[str, Field(pattern=r"^[A-Za-z0-9@._/:-]*$", max_length=256)]
"""A name of a cloud provider, of the characters and the length that all of them allow, or nothing."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
"""The name of an environment variable; a longer one is a mistake."""
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]


class Frozen(BaseModel):
    """A configuration that is immutable and has no unknown keys and no NaN; its errors do not repeat what was
    written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, content: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(content, dict) else ():
            if field.annotation is int and isinstance(content.get(name), bool):
                raise ValueError(f"{name} must be a number, but got {str(content[name]).lower()}")
        return content


class Head(Frozen):
    """The node that drives the search, on Kubernetes; on AWS and GCP its machine type says the same.

    Trials never run on it, and it is never a spot node.
    """

    cpus: int = Field(2, ge=1, le=1024, description="of the head's pod")
    memory_gib: int = Field(8, ge=2, le=16384, description="of the head's pod")


class Workers(Frozen):
    """The nodes that run trials; they come and go with the work."""

    cpus: int = Field(4, ge=1, le=1024, description="of one node, as Ray may use them")
    memory_gib: int = Field(14, ge=2, le=16384, description="of one node, on Kubernetes of its pod")
    gpus: int = Field(1, ge=0, le=64, description="of one node")
    min_nodes: int = Field(0, ge=0, le=1000, description="kept also without work")
    max_nodes: int = Field(4, ge=1, le=1000, description="never more")
    spot: bool = Field(True, description="cheaper nodes that the provider may take back; a trial moves on")

    @model_validator(mode="after")
    def _ordered(self) -> "Workers":
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes must not exceed max_nodes, but got {self.min_nodes} > {self.max_nodes}")
        return self


class Aws(Frozen):
    """The EC2 instances that Ray's cluster launcher starts."""

    region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="of all instances")
    image_id: str = Field(
        "", pattern=r"^(ami-[0-9a-f]{8,17})?$", description="machine image with Docker and NVIDIA's driver"
    )
    ssh_user: str = Field("ubuntu", pattern=r"^[a-z_][a-z0-9_-]*$", description="the machine image's")
    head_type: str = Field("m7i.large", pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$", description="instance type of the head")
    worker_type: str = Field("g4dn.xlarge", pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$", description="instance type of workers")
    disk_gib: int = Field(200, ge=50, le=16384, description="of each instance")
    head_profile: CloudName = Field(
        "",
        description="instance profile that starts instances, passes them theirs (iam:PassRole), and reads and writes "
        "the storage; empty: the one that Ray creates",
    )
    worker_profile: CloudName = Field("", description="instance profile that reads and writes the storage")


class Gcp(Frozen):
    """The Compute Engine instances that Ray's cluster launcher starts."""

    project: str = Field("", pattern=r"^([a-z][a-z0-9-]{4,28}[a-z0-9])?$", description="id of the project")
    zone: str = Field("us-central1-a", pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]$", description="of all instances")
    source_image: CloudName = Field(
        "", description="machine image with Docker and NVIDIA's driver, projects/…/global/images/…"
    )
    ssh_user: str = Field("ubuntu", pattern=r"^[a-z_][a-z0-9_-]*$", description="the machine image's")
    head_type: str = Field("e2-standard-2", pattern=r"^[a-z0-9-]+$", description="machine type of the head")
    worker_type: str = Field("n1-standard-4", pattern=r"^[a-z0-9-]+$", description="machine type of workers")
    accelerator: str = Field(
        "nvidia-tesla-t4", pattern=r"^[a-z0-9-]*$", description="empty: GPUs are part of the machine type"
    )
    disk_gib: int = Field(200, ge=50, le=16384, description="of each instance")
    worker_account: CloudName = Field("", description="service account that reads and writes the storage")


class Redis(Frozen):
    """Where the head keeps its state, so that a cluster outlives its head pod."""

    address: str = Field(pattern=r"^[a-z0-9.-]+:[0-9]{1,5}$", description="host:port")
    secret: KubernetesName = Field("", description="secret with the password; empty: none is asked")
    key: VariableName = Field("password", description="the password's key in the secret")


class Kubernetes(Frozen):
    """The pods that the KubeRay operator manages."""

    namespace: KubernetesName = Field("default", min_length=1, description="where everything goes")
    service_account: KubernetesName = Field("", description="of all pods; empty: the namespace's own")
    storage_claim: KubernetesName = Field(
        "", description="persistent volume claim (ReadWriteMany), mounted at shared_folder"
    )
    storage_secret: KubernetesName = Field(
        "", description="secret with an object store's credentials as environment variables"
    )
    token_secret: KubernetesName = Field(
        "tune-app-token", min_length=1, description="secret with Ray's token under auth_token"
    )
    env_secret: KubernetesName = Field("", description="secret that holds the variables of env, by name")
    image_pull_secret: KubernetesName = Field("", description="secret of a private registry")
    head_selector: dict[LabelKey, LabelValue] = Field({}, description="labels of nodes for the head")
    worker_selector: dict[LabelKey, LabelValue] = Field(
        {}, description="labels of nodes for workers, such as karpenter.sh/capacity-type: spot"
    )
    backoff_limit: int = Field(3, ge=0, le=100, description="new clusters after one that failed")
    ttl_seconds_after_finished: int = Field(
        300, ge=0, le=86400, description="until the pods of a finished job are removed"
    )
    redis: Redis | None = Field(None, description="null: a lost head costs the cluster, never results")
    network_policy: bool = Field(
        False, description="only the cluster's own pods reach it; KubeRay's gate RayClusterNetworkPolicy"
    )
    standing: str = Field(
        "",
        pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$",
        max_length=53,
        description="name of a cluster that outlives its jobs; empty: every job brings its own",
    )


class ClusterConfig(Frozen):
    """The machines of a cluster, and how the software gets there."""

    dependencies: Literal["image", "uv"] = Field(
        "image", description="image: the container image holds everything; uv: Ray installs it on each node"
    )
    image: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._/:@-]*)?$",
        max_length=256,
        description="empty: tune-app:<version>",
    )
    env: tuple[VariableName, ...] = Field(
        (),
        max_length=64,
        description="names of variables to hand on; Ray keeps their values in its logs of a job that is sent",
    )
    head: Head = Head()
    workers: Workers = Workers()
    idle_timeout_minutes: int = Field(10, ge=1, le=1440, description="until a node without work is given back")
    shared_folder: str = Field(
        "", pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", description="path of one file system on every node"
    )
    nfs: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]*:(/[A-Za-z0-9._/-]*))?$",
        description="server:/export to mount there on AWS and GCP; empty: the machine image does",
    )
    aws: Aws = Aws()
    gcp: Gcp = Gcp()
    kubernetes: Kubernetes = Kubernetes()

    @model_validator(mode="before")
    @classmethod
    def _holds_no_credential(cls, content: Any) -> Any:
        for place, text in strings_in(content):
            kind = credential_in(text) or ("a value" if place.startswith("env.") and "=" in text else None)
            if kind:
                message = "{place} holds what looks like {kind}: write a name, and leave the value where it is"
                raise PydanticCustomError("credential", message, {"place": place or "a key", "kind": kind})
        return content

    @field_validator("image")
    @classmethod
    def _pinned(cls, image: str) -> str:
        tag = image.rpartition("/")[2].partition(":")[2]
        if image and (not tag or tag == "latest"):
            raise ValueError(f"an image has a tag that is not `latest`, or a digest, but got {image!r}")
        return image

    @model_validator(mode="after")
    def _mounted_somewhere(self) -> "ClusterConfig":
        for place, value in (("nfs", self.nfs), ("kubernetes.storage_claim", self.kubernetes.storage_claim)):
            if value and not self.shared_folder:
                raise ValueError(f"{place} is mounted at shared_folder: name that, such as /mnt/tune-app")
        return self
