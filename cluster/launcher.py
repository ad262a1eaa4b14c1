"""A cluster file of Ray's cluster launcher (`ray up`), and the plan around it.

The head is on demand and runs the driver, never a trial. Nodes are containers on virtual machines; the dashboard
listens on the head's loopback and is reached through SSH only; every call needs Ray's token.
"""

from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from cluster.image import HOME, UID, build_commands, image_of
from cluster.job import SPEC_FILE, Facts, JobSpec, SubmitPlan
from cluster.launchable import VARIABLE, launchable_text
from cluster.names import dns_label
from cluster.placement import check_storage_is_shared, check_trial_fits, size_facts, trials_at_once
from cluster.working_dir import runtime_env, sent_packages
from cluster.yaml_text import yaml_text

CLUSTER_FILE = "cluster.yaml"
HEAD, WORKER = "head", "worker"
TOKEN = ".ray/auth_token"
PORT, DASHBOARD_PORT = 6379, 8265
"""Ray's own default ports of the head and of its dashboard."""
NAME_LIMIT = 40
"""Google's limit of 63 characters on instance names, less what Ray adds."""
CONTAINER = "tune-app"
NFS_OPTIONS = "nfsvers=4.1,hard,timeo=600,retrans=2"


def cluster_file(
    job: JobSpec, *, provider: dict[str, Any], ssh_user: str, head: dict[str, Any], worker: dict[str, Any]
) -> dict[str, Any]:
    """Returns a job's cluster file, with all that the launcher would otherwise fill in from its own defaults.

    `head` and `worker` are the provider's descriptions of a machine; `file_mounts` maps paths in the container to paths
    here.
    """
    config, workers = job.cluster, job.cluster.workers
    gpus = {"GPU": workers.gpus} if workers.gpus else {}
    return {
        "cluster_name": dns_label(f"tune-app-{job.experiment}", longest=NAME_LIMIT),
        "max_workers": workers.max_nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": config.idle_timeout_minutes,
        "provider": provider,
        "auth": {"ssh_user": ssh_user},
        "docker": {
            "image": image_of(config),
            "container_name": CONTAINER,
            "pull_before_run": True,
            "run_options": _run_options(config),
        },
        "available_node_types": {
            # No CPUs to give: neither trials nor their data preparation are placed on the head.
            HEAD: {"resources": {"CPU": 0}, "node_config": head, "min_workers": 0, "max_workers": 0},
            WORKER: {
                "resources": {"CPU": workers.cpus, **gpus},
                "node_config": worker,
                "min_workers": workers.min_nodes,
                "max_workers": workers.max_nodes,
            },
        },
        "head_node_type": HEAD,
        "file_mounts": {f"{HOME}/{TOKEN}": f"~/{TOKEN}", f"{HOME}/tune-app": "spec"},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [_same_user(), *_mount_commands(config.shared_folder, config.nfs)],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            f"ray start --head --port={PORT} --num-cpus=0 --dashboard-host=127.0.0.1 "
            f"--dashboard-port={DASHBOARD_PORT} --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"ray start --address=$RAY_HEAD_IP:{PORT}"],
    }


def launcher_plan(job: JobSpec, cluster: dict[str, Any], *, client: str, facts: Facts) -> SubmitPlan:
    """Returns the plan of a person who starts the cluster, sends the job through its tunnel, and ends the cluster.

    `client` is the provider's Python client, which Ray's launcher needs on both sides.

    Raises:
        PlanRefused: a trial fits no worker, the storage is not shared, or the image is in no registry.
    """
    check_trial_fits(job)
    check_storage_is_shared(job)
    return SubmitPlan(
        backend=cluster["provider"]["type"],
        submission_id=job.submission_id,
        entrypoint=f"python -m tune_app run {SPEC_FILE}",
        runtime_env=runtime_env(job, Path()),
        env=job.cluster.env,
        packages=sent_packages(job.cluster),
        metadata=job.metadata,
        files={CLUSTER_FILE: yaml_text(cluster), f"spec/{SPEC_FILE}": job.spec_text},
        commands=(*build_commands(job.cluster, launcher=client), *_commands(client)),
        facts={
            **facts,
            **size_facts(job.cluster),
            "trials_at_once": trials_at_once(job),
            "head_runs_until": f"ray down {CLUSTER_FILE}",
        },
    )


def _run_options(config: ClusterConfig) -> tuple[str, ...]:
    options = [
        "--env RAY_AUTH_MODE=token",
        "--env RAY_USAGE_STATS_ENABLED=0",
        f"--env {VARIABLE}={launchable_text(config.workers)}",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--ulimit nofile=65536:65536",
    ]
    folder = config.shared_folder
    return (*options, *([f"--volume {folder}:{folder}"] if folder else []))


def _mount_commands(folder: str, nfs: str) -> tuple[str, ...]:
    """Returns the commands that mount the shared folder on a machine, before its container starts."""
    if not nfs:
        return ()
    return (
        "command -v mount.nfs4 >/dev/null || (sudo apt-get update -q && sudo apt-get install -qy nfs-common)",
        f"sudo mkdir -p {folder} && (mountpoint -q {folder} || sudo mount -t nfs4 -o {NFS_OPTIONS} {nfs} {folder})",
    )


def _same_user() -> str:
    """Returns a check that the machine's user is the container's, as its owner alone can read the token's file."""
    problem = f"ssh_user must be user {UID} of the machine image, as in the container, but it is"
    return f'test "$(id -u)" = {UID} || {{ echo "{problem} $(id -u)"; exit 1; }}'


def _commands(client: str) -> tuple[str, ...]:
    return (
        f"pip install {client}  # for Ray's launcher on this machine",
        f"(umask 077 && ray get-auth-token --generate >/dev/null) && chmod 600 ~/{TOKEN}",
        f"ray up --yes {CLUSTER_FILE}",
        f"ray dashboard {CLUSTER_FILE}  # an SSH tunnel: leave it open, go on in a second terminal",
        f"RAY_AUTH_MODE=token tune-app submit spec/{SPEC_FILE} --backend ray "
        f"--address http://127.0.0.1:{DASHBOARD_PORT}",
        f"ray down --yes {CLUSTER_FILE}  # when the job has ended: the head costs money until then",
    )
