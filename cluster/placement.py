"""Whether a job fits the machines that it asks for, and what those are at most."""

import math
from collections.abc import Mapping

from cluster.config import ClusterConfig
from cluster.errors import PlanRefused
from cluster.job import Facts, JobSpec

RAYS_LEAST = 1e-4
"""The step in which Ray counts resources."""
OBJECT_STORES = ("s3://", "gs://")


def check_trial_fits(job: JobSpec) -> None:
    """Raises PlanRefused if a trial needs more than one worker node has: it would wait for ever."""
    workers = job.cluster.workers
    for kind, need, has in (("CPU", job.cpu, workers.cpus), ("GPU", job.gpu, workers.gpus)):
        if need > has:
            raise PlanRefused(
                f"a trial needs {need:g} {kind}, but a worker has {has}: "
                f"raise cluster.workers.{kind.lower()}s or lower resources.{kind.lower()}."
            )


def check_storage_is_shared(job: JobSpec) -> None:
    """Raises PlanRefused if the storage, where driver and trials meet, is a folder of one machine."""
    folder = job.cluster.shared_folder
    if in_object_store(job) or (folder and f"{job.storage}/".startswith(f"{folder}/")):
        return
    raise PlanRefused(
        f"storage {job.storage!r} is a folder of one machine: use s3://… or gs://…, "
        f"or a path below cluster.shared_folder ({folder or 'not set'})."
    )


def in_object_store(job: JobSpec) -> bool:
    """Whether the storage is a bucket, not a file system."""
    return job.storage.startswith(OBJECT_STORES)


def trials_on(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Returns how many trials a node holds by its scarcest resource; Ray places a share of a GPU on one GPU."""

    def held(kind: str, need: float) -> int:
        has = node.get(kind, 0.0)
        whole, rest = divmod(has, 1) if kind == "GPU" and need < 1 else (0, has)
        return int(whole) * math.floor(1 / need + 1e-9) + math.floor(rest / need + 1e-9)

    return min(held(kind, max(need, RAYS_LEAST)) for kind, need in needs.items() if need > 0)


def trials_at_once(job: JobSpec) -> int:
    """Returns how many trials run at the same time when all workers are there; on cheaper rungs, or with automatic
    shares of a GPU, how many may."""
    workers = job.cluster.workers
    per_node = trials_on({"CPU": workers.cpus, "GPU": workers.gpus}, {"CPU": job.cpu, "GPU": job.gpu_least or job.gpu})
    some = job.on_rungs or job.trials
    return min(per_node * workers.max_nodes, some, job.max_concurrent or some)


def size_facts(config: ClusterConfig) -> Facts:
    """Returns what decides the bill, the same for every provider."""
    workers = config.workers
    return {
        "workers_at_least": workers.min_nodes,
        "workers_at_most": workers.max_nodes,
        "cpus_at_most": config.head.cpus + workers.max_nodes * workers.cpus,
        "gpus_at_most": workers.max_nodes * workers.gpus,
        "spot_workers": workers.spot,
        "idle_timeout_minutes": config.idle_timeout_minutes,
    }
