"""GCP: Compute Engine instances for Ray's cluster launcher."""

from typing import Any

from cluster.config import ClusterConfig, Gcp
from cluster.errors import PlanRefused
from cluster.job import Facts, JobSpec, Planner, SubmitPlan
from cluster.launcher import cluster_file, launcher_plan
from cluster.placement import in_object_store

CLIENT = "google-api-python-client"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GcpPlanner(Planner):
    """Plans a cluster on Compute Engine; a person starts and ends it."""

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns the cluster file and the commands around it."""
        config, gcp = job.cluster, job.cluster.gcp
        _check(job)
        cluster = cluster_file(
            job,
            provider={
                "type": "gcp",
                "project_id": gcp.project,
                "region": gcp.zone.rpartition("-")[0],
                "availability_zone": gcp.zone,
                # A stopped node would keep its disk, and cost.
                "cache_stopped_nodes": False,
            },
            ssh_user=gcp.ssh_user,
            head=_node(gcp, gcp.head_type),
            worker=_worker(config),
        )
        gpus = f" + {config.workers.gpus} × {gcp.accelerator}" if config.workers.gpus and gcp.accelerator else ""
        facts: Facts = {
            "zone": gcp.zone,
            "head": gcp.head_type,
            "worker": gcp.worker_type + gpus,
            "disk_gib": gcp.disk_gib,
        }
        return launcher_plan(job, cluster, client=CLIENT, facts=facts)


def _check(job: JobSpec) -> None:
    gcp = job.cluster.gcp
    if not gcp.project:
        raise PlanRefused("cluster.gcp.project is missing: name the project that pays.")
    if not gcp.source_image:
        raise PlanRefused(
            "cluster.gcp.source_image is missing: name a machine image with Docker and NVIDIA's driver; "
            "gcloud compute images list --project deeplearning-platform-release shows some."
        )
    if in_object_store(job) and not gcp.worker_account:
        raise PlanRefused(
            f"cluster.gcp.worker_account is missing: workers write to {job.storage} as a service account; name it."
        )


def _worker(config: ClusterConfig) -> dict[str, Any]:
    gcp, workers = config.gcp, config.workers
    node = _node(gcp, gcp.worker_type)
    if workers.gpus:
        node["metadata"] = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
    if workers.gpus and gcp.accelerator:
        node["guestAccelerators"] = [{"acceleratorType": gcp.accelerator, "acceleratorCount": workers.gpus}]
    if gcp.worker_account:
        node["serviceAccounts"] = [{"email": gcp.worker_account, "scopes": [SCOPE]}]
    if workers.spot:
        node["scheduling"] = {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }
    elif workers.gpus:
        # A machine with GPUs cannot be moved to another host.
        node["scheduling"] = {"onHostMaintenance": "TERMINATE", "automaticRestart": True}
    return node


def _node(gcp: Gcp, machine_type: str) -> dict[str, Any]:
    """Returns the body of Compute Engine's instances.insert; disks are encrypted there in any case."""
    return {
        "machineType": machine_type,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "initializeParams": {"diskSizeGb": gcp.disk_gib, "sourceImage": gcp.source_image},
            }
        ],
    }
