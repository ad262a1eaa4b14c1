"""Kubernetes with the KubeRay operator (1.6 or later): a RayJob per job, or jobs for a standing RayCluster."""

from pathlib import Path

from cluster.config import ClusterConfig
from cluster.errors import PlanRefused
from cluster.image import build_commands, ray_version
from cluster.job import SPEC_FILE, Facts, JobSpec, Planner, SubmitPlan
from cluster.names import dns_label, label_value
from cluster.placement import check_storage_is_shared, check_trial_fits, in_object_store, size_facts, trials_at_once
from cluster.pods import SIDECAR, SPEC_FOLDER, Manifest, head_pod, security_context, submitter_pod, worker_pod
from cluster.working_dir import runtime_env, sent_packages
from cluster.yaml_text import yaml_text

API_VERSION = "ray.io/v1"
JOB_NAME_LIMIT = 47
"""KubeRay's limit on names of jobs: it appends to them, and the service's name must still be a DNS label."""
INSTANCE = "app.kubernetes.io/instance"
"""The label with the name of the cluster or job that something belongs to."""
WORKER_GROUP = "workers"
DASHBOARD = "127.0.0.1:8265"


class KubeRayPlanner(Planner):
    """Plans the manifests of a job; a person applies them."""

    def plan(self, job: JobSpec) -> SubmitPlan:
        """Returns the manifests and the commands around them."""
        check_trial_fits(job)
        check_storage_is_shared(job)
        _check(job)
        return _standing_plan(job) if job.cluster.kubernetes.standing else _job_plan(job)


def ray_job(job: JobSpec) -> Manifest:
    """Returns the manifest of a cluster that lives as long as its job; after a failure the job continues on a new
    one."""
    config, name = job.cluster, job_name(job)
    labels = _labels(name, job.experiment)
    return {
        **_head("RayJob", config, labels),
        "spec": {
            "entrypoint": f"python -m tune_app run {SPEC_FOLDER}/{SPEC_FILE}",
            "submissionMode": "K8sJobMode",
            "metadata": job.metadata,
            "backoffLimit": config.kubernetes.backoff_limit,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": config.kubernetes.ttl_seconds_after_finished,
            "submitterPodTemplate": submitter_pod(config, labels),
            "rayClusterSpec": _cluster_spec(config, labels, spec_map=name),
        },
    }


def ray_cluster(config: ClusterConfig) -> Manifest:
    """Returns the manifest of a cluster that outlives its jobs."""
    labels = _labels(config.kubernetes.standing)
    return {**_head("RayCluster", config, labels), "spec": _cluster_spec(config, labels)}


def config_map(job: JobSpec) -> Manifest:
    """Returns the manifest that mounts the spec into the head's pod."""
    return {
        **_head("ConfigMap", job.cluster, _labels(job_name(job), job.experiment), version="v1"),
        "immutable": True,
        "data": {SPEC_FILE: job.spec_text},
    }


def job_name(job: JobSpec) -> str:
    """Returns the name of the RayJob and of its config map."""
    return dns_label(job.submission_id, longest=JOB_NAME_LIMIT)


def _check(job: JobSpec) -> None:
    kubernetes = job.cluster.kubernetes
    if not in_object_store(job) and not kubernetes.storage_claim:
        raise PlanRefused(
            f"cluster.kubernetes.storage_claim is missing: pods reach {job.storage} "
            "by a persistent volume claim; name it."
        )
    if job.cluster.env and not (kubernetes.env_secret or kubernetes.standing):
        raise PlanRefused(
            f"cluster.kubernetes.env_secret is missing: pods get {', '.join(job.cluster.env)} from a secret; name it."
        )
    if job.cluster.dependencies == "uv" and not kubernetes.standing:
        raise PlanRefused(
            "dependencies: uv sends our packages with the job, which a RayJob cannot: "
            "choose dependencies: image, or name a cluster.kubernetes.standing."
        )


def _cluster_spec(config: ClusterConfig, labels: dict[str, str], *, spec_map: str = "") -> Manifest:
    kubernetes, workers = config.kubernetes, config.workers
    spec: Manifest = {
        "rayVersion": ray_version(),
        "authOptions": {"mode": "token", "secretName": kubernetes.token_secret},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 60 * config.idle_timeout_minutes,
            "resources": {"requests": dict(SIDECAR), "limits": dict(SIDECAR)},
            "securityContext": security_context(),
        },
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "enableIngress": False,
            # No CPUs to give: neither trials nor their data preparation are placed on the head.
            "rayStartParams": {"num-cpus": "0"},
            "template": head_pod(config, labels, spec_map=spec_map),
        },
        "workerGroupSpecs": [
            {
                "groupName": WORKER_GROUP,
                "replicas": workers.min_nodes,
                "minReplicas": workers.min_nodes,
                "maxReplicas": workers.max_nodes,
                "rayStartParams": {},
                "template": worker_pod(config, labels),
            }
        ],
    }
    if redis := kubernetes.redis:
        reference = {"secretKeyRef": {"name": redis.secret, "key": redis.key}}
        password = {"redisPassword": {"valueFrom": reference}} if redis.secret else {}
        spec["gcsFaultToleranceOptions"] = {"redisAddress": redis.address, **password}
    if kubernetes.network_policy:
        spec["networkPolicy"] = {"mode": "DenyAllIngress"}
    return spec


def _labels(name: str, experiment: str = "") -> dict[str, str]:
    labels = {"app.kubernetes.io/name": "tune-app", INSTANCE: name}
    return {**labels, **({"tune-app/experiment": label_value(experiment)} if experiment else {})}


def _head(kind: str, config: ClusterConfig, labels: dict[str, str], *, version: str = API_VERSION) -> Manifest:
    """Returns what every manifest begins with; its name is that of the instance in the labels."""
    metadata = {"name": labels[INSTANCE], "namespace": config.kubernetes.namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _job_plan(job: JobSpec) -> SubmitPlan:
    config, name, files = job.cluster, job_name(job), ("configmap.yaml", "rayjob.yaml")
    kubectl = f"kubectl --namespace {config.kubernetes.namespace}"
    applied = " ".join(f"--filename {file}" for file in files)
    return SubmitPlan(
        backend="kuberay",
        submission_id=job.submission_id,
        entrypoint=f"python -m tune_app run {SPEC_FOLDER}/{SPEC_FILE}",
        env=config.env,
        metadata=job.metadata,
        files=dict(zip(files, (yaml_text(config_map(job)), yaml_text(ray_job(job))), strict=True)),
        commands=(
            *build_commands(config),
            _token_command(config),
            f"kubectl apply {applied}",
            f"{kubectl} get rayjob {name} --watch",
            f"{kubectl} logs --follow job/{name}",
            f"kubectl delete {applied}  # ends it early, or before it is applied again; results stay in the storage",
        ),
        facts=_facts(job),
    )


def _standing_plan(job: JobSpec) -> SubmitPlan:
    config, name = job.cluster, job.cluster.kubernetes.standing
    kubectl = f"kubectl --namespace {config.kubernetes.namespace}"
    secret = config.kubernetes.token_secret
    token = f"$({kubectl} get secret {secret} --output jsonpath='{{.data.auth_token}}' | base64 --decode)"
    return SubmitPlan(
        backend="kuberay",
        submission_id=job.submission_id,
        entrypoint=f"python -m tune_app run {SPEC_FILE}",
        runtime_env=runtime_env(job, Path()),
        env=config.env,
        packages=sent_packages(config),
        metadata=job.metadata,
        files={"raycluster.yaml": yaml_text(ray_cluster(config)), SPEC_FILE: job.spec_text},
        commands=(
            *build_commands(config),
            _token_command(config),
            "kubectl apply --filename raycluster.yaml",
            f"{kubectl} port-forward service/{name}-head-svc 8265  # leave it open, go on in a second terminal",
            f'RAY_AUTH_MODE=token RAY_AUTH_TOKEN="{token}" '
            f"tune-app submit {SPEC_FILE} --backend ray --address http://{DASHBOARD}",
            "kubectl delete --filename raycluster.yaml  # when all jobs have ended",
        ),
        facts={**_facts(job), "head_runs_until": "raycluster.yaml is deleted"},
    )


def _token_command(config: ClusterConfig) -> str:
    """Returns the command that makes the token once, by way of a pipe: arguments are visible to everyone on the
    machine."""
    kubectl, secret = f"kubectl --namespace {config.kubernetes.namespace}", config.kubernetes.token_secret
    create = f"{kubectl} create secret generic {secret} --from-file=auth_token=/dev/stdin"
    return f"{kubectl} get secret {secret} >/dev/null || openssl rand -hex 32 | tr -d '\\n' | {create}"


def _facts(job: JobSpec) -> Facts:
    config = job.cluster
    spot = "up to the nodes that cluster.kubernetes.worker_selector chooses"
    return {
        "namespace": config.kubernetes.namespace,
        "new_clusters_after_failures": 0 if config.kubernetes.standing else config.kubernetes.backoff_limit,
        **size_facts(config),
        "spot_workers": spot,
        "trials_at_once": trials_at_once(job),
    }
