"""Jobs that every planner accepts, with any legal cluster section (hypothesis)."""

from typing import Any

from hypothesis import strategies as st

from cluster.config import ClusterConfig
from cluster.job import JobSpec
from tests.cluster.factories import AMI, GCP_IMAGE, IMAGE, make_job

NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)
LABEL = st.from_regex(r"([a-z][a-z0-9]{0,9}\.io/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
# A test looks for this address in whole plans.
EXPERIMENT = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(
    lambda name: "0.0.0.0" not in name
)
SELECTOR = st.dictionaries(
    LABEL, st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True), max_size=2
)
STORAGE = {"s3://bucket/runs": {}, "gs://bucket/runs": {}, "/mnt/shared/runs": {"shared_folder": "/mnt/shared"}}
IMAGES = (IMAGE, "localhost:5001/tune-app:0.1.0", "ghcr.io/a/b@sha256:" + "ab" * 32)


def or_empty(name: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.just("") | name


@st.composite
def node_groups(draw: st.DrawFn) -> dict[str, Any]:
    most = draw(st.integers(1, 1000))
    return {
        "head": {"cpus": draw(st.integers(1, 64)), "memory_gib": draw(st.integers(2, 512))},
        "workers": {
            "cpus": draw(st.integers(1, 256)),
            "memory_gib": draw(st.integers(2, 2048)),
            "gpus": draw(st.integers(0, 16)),
            "min_nodes": draw(st.integers(0, most)),
            "max_nodes": most,
            "spot": draw(st.booleans()),
        },
    }


@st.composite
def kubernetes_sections(draw: st.DrawFn, *, claim: bool, standing: bool) -> dict[str, Any]:
    redis = {"address": "redis.data:6379", "secret": draw(or_empty(NAME)), "key": "password"}
    return {
        "namespace": draw(NAME),
        "service_account": draw(or_empty(NAME)),
        "storage_claim": draw(NAME) if claim else "",
        "storage_secret": draw(or_empty(NAME)),
        "token_secret": draw(NAME),
        "env_secret": draw(NAME),
        "image_pull_secret": draw(or_empty(NAME)),
        "head_selector": draw(SELECTOR),
        "worker_selector": draw(SELECTOR),
        "backoff_limit": draw(st.integers(0, 100)),
        "ttl_seconds_after_finished": draw(st.integers(0, 86400)),
        "redis": draw(st.none() | st.just(redis)),
        "network_policy": draw(st.booleans()),
        "standing": "search-cluster" if standing else "",
    }


@st.composite
def legal_jobs(draw: st.DrawFn) -> JobSpec:
    storage = draw(st.sampled_from(sorted(STORAGE)))
    dependencies = draw(st.sampled_from(["image", "uv"]))
    shared = bool(STORAGE[storage])
    standing = dependencies == "uv" or draw(st.booleans())
    section = {
        **STORAGE[storage],
        **draw(node_groups()),
        "dependencies": dependencies,
        "image": draw(st.sampled_from(IMAGES)),
        "env": draw(st.lists(st.sampled_from(["WANDB_API_KEY", "HF_HOME", "A"]), unique=True)),
        "idle_timeout_minutes": draw(st.integers(1, 1440)),
        "nfs": draw(or_empty(st.just("10.0.0.2:/runs"))) if shared else "",
        "aws": {
            "image_id": AMI,
            "worker_profile": draw(st.sampled_from(["worker", "arn:aws:iam::123456789012:instance-profile/worker"])),
            "head_profile": "head",
            "disk_gib": draw(st.integers(50, 16384)),
        },
        "gcp": {
            "project": "my-project",
            "source_image": GCP_IMAGE,
            "worker_account": "w@my-project.iam.gserviceaccount.com",
            "accelerator": draw(st.sampled_from(["", "nvidia-l4"])),
        },
        "kubernetes": draw(kubernetes_sections(claim=shared, standing=standing)),
    }
    workers = ClusterConfig.model_validate(section).workers
    return make_job(
        storage,
        cluster=section,
        experiment=draw(EXPERIMENT),
        attempt=draw(st.integers(1, 10_000)),
        trials=draw(st.integers(1, 1_000_000)),
        cpu=draw(st.floats(0.01, workers.cpus)),
        gpu=draw(st.floats(0, workers.gpus)),
        max_concurrent=draw(st.none() | st.integers(1, 1000)),
    )
