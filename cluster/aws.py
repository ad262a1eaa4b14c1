"""AWS: EC2 instances for Ray's cluster launcher."""

from typing import Any

from cluster.config import Aws
from cluster.errors import PlanRefused
from cluster.job import Facts, JobSpec, Planner, SubmitPlan
from cluster.launcher import cluster_file, launcher_plan
from cluster.placement import in_object_store

CLIENT = "boto3"
AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"


class AwsPlanner(Planner):
    """Plans a cluster on EC2; a person starts and ends it."""

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns the cluster file and the commands around it."""
        aws = job.cluster.aws
        _check(job)
        cluster = cluster_file(
            job,
            # A stopped node would keep its disk, and cost.
            provider={"type": "aws", "region": aws.region, "cache_stopped_nodes": False},
            ssh_user=aws.ssh_user,
            head=_node(aws, aws.head_type, profile=aws.head_profile),
            worker=_node(aws, aws.worker_type, profile=aws.worker_profile, spot=job.cluster.workers.spot),
        )
        facts: Facts = {
            "region": aws.region,
            "head": aws.head_type,
            "worker": aws.worker_type,
            "disk_gib": aws.disk_gib,
        }
        return launcher_plan(job, cluster, client=CLIENT, facts=facts)


def _check(job: JobSpec) -> None:
    aws = job.cluster.aws
    if not aws.image_id:
        raise PlanRefused(
            "cluster.aws.image_id is missing: name a machine image with Docker and NVIDIA's driver; "
            f"aws ssm get-parameter --region {aws.region} --name {AMI_PARAMETER} shows one."
        )
    if in_object_store(job) and not aws.worker_profile:
        raise PlanRefused(
            f"cluster.aws.worker_profile is missing: workers write to {job.storage} by an instance profile; name it."
        )
    if aws.worker_profile and not aws.head_profile:
        raise PlanRefused(
            f"cluster.aws.head_profile is missing: the head gives workers the profile {aws.worker_profile}, which the "
            "one that Ray creates may not (iam:PassRole); name one that may."
        )


def _node(aws: Aws, instance_type: str, *, profile: str, spot: bool = False) -> dict[str, Any]:
    """Returns the arguments of EC2's RunInstances for one kind of machine."""
    node: dict[str, Any] = {
        "InstanceType": instance_type,
        "ImageId": aws.image_id,
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {
                    "VolumeSize": aws.disk_gib,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        # Version 2 of the metadata service only, and no hop beyond the machine's own network.
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
    }
    if profile:
        node["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
    if spot:
        node["InstanceMarketOptions"] = {"MarketType": "spot"}
    return node
