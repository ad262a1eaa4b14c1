"""Jobs and cluster sections for tests, and what YAML text holds."""

import hashlib
from typing import Any

from ruamel.yaml import YAML

from cluster.config import ClusterConfig
from cluster.job import JobSpec

IMAGE = "registry.example.com/tune-app:0.1.0"
AMI = "ami-0123456789abcdef0"
GCP_IMAGE = "projects/deeplearning-platform-release/global/images/common-cu130-v20260901"
SPEC = "# two lines\nname: demo\nstorage: %s\nbudget: {trials: 18}\n"

AWS = {"image_id": AMI, "head_profile": "tune-app-head", "worker_profile": "tune-app-worker"}
GCP = {"project": "my-project", "source_image": GCP_IMAGE, "worker_account": "w@my-project.iam.gserviceaccount.com"}
SHARED = {"shared_folder": "/mnt/tune-app", "nfs": "fs-1.efs.us-east-1.amazonaws.com:/"}


def make_job(storage: str = "s3://bucket/runs", *, cluster: dict[str, Any] | None = None, **changes: Any) -> JobSpec:
    """A small job; `cluster` is the section of a spec, complete for every backend unless it says otherwise."""
    text = SPEC % storage
    section = {"image": IMAGE, "aws": AWS, "gcp": GCP, **(cluster or {})}
    fields: dict[str, Any] = {
        "experiment": "demo",
        "spec_text": text,
        "spec_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "storage": storage,
        "trials": 18,
        "cpu": 1,
        "gpu": 0.25,
        "cluster": ClusterConfig.model_validate(section),
    }
    return JobSpec(**{**fields, **changes})


def read_yaml(text: str) -> Any:
    """One document."""
    return YAML(typ="safe", pure=True).load(text)
