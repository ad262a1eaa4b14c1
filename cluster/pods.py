"""Pods of a Ray cluster on Kubernetes: not root, no privileges, as much asked for as may be used."""

from typing import Any

from cluster.config import ClusterConfig
from cluster.image import UID, image_of
from cluster.job import SPEC_FILE
from cluster.launchable import VARIABLE, launchable_text

SPEC_FOLDER = "/etc/tune-app"
SPEC_VOLUME = "spec"
STORAGE_VOLUME = "storage"
SIDECAR = {"cpu": "500m", "memory": "1Gi"}
"""What submitter and autoscaler ask for: they wait more than they work."""
Manifest = dict[str, Any]


def security_context() -> Manifest:
    """Returns the security context of a container after the `restricted` pod security standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(cpus: int, memory_gib: int, gpus: int = 0) -> Manifest:
    """Returns requests equal to limits: such a pod is the last to be evicted, and Ray counts what the pod really
    has."""
    amounts: Manifest = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def head_pod(config: ClusterConfig, labels: dict[str, str], *, spec_map: str = "") -> Manifest:
    """Returns the head's pod template; `spec_map` names the config map with the spec, empty for none."""
    head = config.head
    pod = _ray_pod(config, "ray-head", resources(head.cpus, head.memory_gib), selector=config.kubernetes.head_selector)
    container = pod["containers"][0]
    container["env"].append({"name": VARIABLE, "value": launchable_text(config.workers)})
    container["ports"] = [{"containerPort": 6379, "name": "gcs-server"}, {"containerPort": 8265, "name": "dashboard"}]
    if spec_map:
        mount = {"name": SPEC_VOLUME, "mountPath": SPEC_FOLDER, "readOnly": True}
        container.setdefault("volumeMounts", []).append(mount)
        source = {"name": spec_map, "items": [{"key": SPEC_FILE, "path": SPEC_FILE}]}
        pod.setdefault("volumes", []).append({"name": SPEC_VOLUME, "configMap": source})
    return {"metadata": {"labels": labels}, "spec": pod}


def worker_pod(config: ClusterConfig, labels: dict[str, str]) -> Manifest:
    """Returns the workers' pod template."""
    workers, selector = config.workers, config.kubernetes.worker_selector
    size = resources(workers.cpus, workers.memory_gib, workers.gpus)
    pod = _ray_pod(config, "ray-worker", size, selector=selector)
    # Trials run what a spec names; none of it has business with the Kubernetes API.
    pod["automountServiceAccountToken"] = False
    # Pools of GPU or spot nodes are often closed to pods that do not name their taint.
    taints = [*(["nvidia.com/gpu"] if workers.gpus else []), *selector]
    if taints:
        pod["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]
    return {"metadata": {"labels": labels}, "spec": pod}


def submitter_pod(config: ClusterConfig, labels: dict[str, str]) -> Manifest:
    """Returns the pod that sends the job to its cluster and prints the job's log; KubeRay fills in its command."""
    container = {
        "name": "ray-job-submitter",
        "image": image_of(config),
        "resources": {"requests": dict(SIDECAR), "limits": dict(SIDECAR)},
        "securityContext": security_context(),
    }
    pod = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
    return {"metadata": {"labels": labels}, "spec": {**pod, **_pull_secret(config)}}


def _ray_pod(config: ClusterConfig, name: str, size: Manifest, *, selector: dict[str, str]) -> Manifest:
    kubernetes = config.kubernetes
    container: Manifest = {
        "name": name,
        "image": image_of(config),
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}, *_forwarded(config)],
        "resources": size,
        "securityContext": security_context(),
    }
    pod: Manifest = {
        "containers": [container],
        # The autoscaler counts a pod as one Ray node: it is replaced, never restarted.
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "fsGroup": UID, "fsGroupChangePolicy": "OnRootMismatch"},
        **_pull_secret(config),
    }
    if kubernetes.storage_secret:
        container["envFrom"] = [{"secretRef": {"name": kubernetes.storage_secret}}]
    if kubernetes.storage_claim:
        container["volumeMounts"] = [{"name": STORAGE_VOLUME, "mountPath": config.shared_folder}]
        claim = {"claimName": kubernetes.storage_claim}
        pod["volumes"] = [{"name": STORAGE_VOLUME, "persistentVolumeClaim": claim}]
    if kubernetes.service_account:
        pod["serviceAccountName"] = kubernetes.service_account
    if selector:
        pod["nodeSelector"] = dict(selector)
    return pod


def _forwarded(config: ClusterConfig) -> list[Manifest]:
    secret = config.kubernetes.env_secret
    if not secret:
        return []
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}} for name in config.env]


def _pull_secret(config: ClusterConfig) -> Manifest:
    secret = config.kubernetes.image_pull_secret
    return {"imagePullSecrets": [{"name": secret}]} if secret else {}
