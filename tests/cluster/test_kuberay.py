"""The manifests are what KubeRay takes, run without privileges, and name secrets only."""

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from cluster.config import ClusterConfig
from cluster.errors import PlanRefused
from cluster.image import UID
from cluster.job import JobSpec
from cluster.kuberay import JOB_NAME_LIMIT, KubeRayPlanner, config_map, job_name, ray_cluster, ray_job
from cluster.launchable import VARIABLE
from tests.cluster.crd import check_manifest
from tests.cluster.factories import IMAGE, make_job, read_yaml
from tests.cluster.strategies import legal_jobs

FULL = {
    "env": ["WANDB_API_KEY"],
    "shared_folder": "/mnt/tune-app",
    "kubernetes": {
        "namespace": "search",
        "service_account": "tune-app",
        "storage_claim": "tune-app-runs",
        "storage_secret": "bucket",
        "env_secret": "tune-app-env",
        "image_pull_secret": "registry",
        "worker_selector": {"karpenter.sh/capacity-type": "spot"},
        "redis": {"address": "redis:6379", "secret": "redis"},
        "network_policy": True,
        "standing": "search",
    },
}
JOB = make_job("/mnt/tune-app/runs", cluster={**FULL, "kubernetes": {**FULL["kubernetes"], "standing": ""}})  # type: ignore[dict-item]
CLUSTER = ray_cluster(ClusterConfig.model_validate({"image": IMAGE, **FULL}))
MANIFESTS = {"RayJob": ray_job(JOB), "RayCluster": CLUSTER}


def cluster_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pod specs: head, workers and, of a job, the submitter."""
    spec = cluster_spec(manifest)
    yield spec["headGroupSpec"]["template"]["spec"]
    yield from (group["template"]["spec"] for group in spec["workerGroupSpecs"])
    if manifest["kind"] == "RayJob":
        yield manifest["spec"]["submitterPodTemplate"]["spec"]


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of them, the autoscaler's settings included."""
    for pod in pods(manifest):
        yield from pod["containers"]
    yield cluster_spec(manifest)["autoscalerOptions"]


@settings(max_examples=40)
@given(legal_jobs())
def test_every_legal_section_gives_manifests_that_kuberay_accepts(job: JobSpec) -> None:
    plan = KubeRayPlanner().plan(job)
    for name, text in plan.files.items():
        if name.startswith("ray"):
            check_manifest(read_yaml(text))
    assert "0.0.0.0" not in plan.to_yaml()


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_a_section_that_uses_everything_is_accepted(manifest: dict[str, Any]) -> None:
    check_manifest(manifest)


@pytest.mark.parametrize(
    "wrong", [("autoscalerOptions", "idleTimeoutSecond"), ("headGroupSpec", "rayStartParam"), ("authOptions", "token")]
)
def test_a_misspelt_property_is_found(wrong: tuple[str, str]) -> None:
    manifest = copy.deepcopy(MANIFESTS["RayCluster"])
    manifest["spec"][wrong[0]][wrong[1]] = "60"
    with pytest.raises(AssertionError, match=wrong[1]):
        check_manifest(manifest)


def test_a_value_of_another_type_is_found() -> None:
    manifest = copy.deepcopy(MANIFESTS["RayCluster"])
    manifest["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "4"
    with pytest.raises(jsonschema.ValidationError):
        check_manifest(manifest)


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_no_container_runs_as_root_or_can_gain_privileges(manifest: dict[str, Any]) -> None:
    for container in containers(manifest):
        context = container["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, UID)
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_every_container_is_given_what_it_asks_for(manifest: dict[str, Any]) -> None:
    for container in containers(manifest):
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_secrets_are_named_and_their_values_are_nowhere(manifest: dict[str, Any]) -> None:
    spec = cluster_spec(manifest)
    assert spec["authOptions"] == {"mode": "token", "secretName": "tune-app-token"}
    assert spec["gcsFaultToleranceOptions"]["redisPassword"] == {
        "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}
    }
    told = {"head": {VARIABLE: "nodes=4,CPU=4,GPU=1"}, "worker": {}}
    for pod, more in zip(pods(manifest), told.values(), strict=False):
        [container] = pod["containers"]
        values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        assert values == {"RAY_USAGE_STATS_ENABLED": "0", **more}
        assert {
            "name": "WANDB_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "tune-app-env", "key": "WANDB_API_KEY"}},
        } in (container["env"])
        assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_only_the_autoscalers_pod_can_talk_to_kubernetes(manifest: dict[str, Any]) -> None:
    head, *others = pods(manifest)
    assert "automountServiceAccountToken" not in head
    assert all(pod["automountServiceAccountToken"] is False for pod in others)


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_the_head_runs_no_trial_and_is_reached_inside_the_cluster_only(manifest: dict[str, Any]) -> None:
    head = cluster_spec(manifest)["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False
    assert "dashboard-host" not in head["rayStartParams"]
    assert cluster_spec(manifest)["networkPolicy"] == {"mode": "DenyAllIngress"}


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_head_and_workers_mount_the_storage_and_are_never_restarted_in_place(manifest: dict[str, Any]) -> None:
    for pod in [*pods(manifest)][:2]:
        assert {"name": "storage", "mountPath": "/mnt/tune-app"} in pod["containers"][0]["volumeMounts"]
        assert {"name": "storage", "persistentVolumeClaim": {"claimName": "tune-app-runs"}} in pod["volumes"]
        assert pod["restartPolicy"] == "Never"


def test_workers_go_to_the_nodes_that_were_chosen_for_them() -> None:
    head, worker, _ = pods(MANIFESTS["RayJob"])
    assert worker["nodeSelector"] == {"karpenter.sh/capacity-type": "spot"}
    assert {toleration["key"] for toleration in worker["tolerations"]} == {
        "nvidia.com/gpu",
        "karpenter.sh/capacity-type",
    }
    assert "nodeSelector" not in head
    assert "tolerations" not in head


def test_workers_scale_between_their_bounds_and_hold_their_gpus() -> None:
    job = make_job(cluster={"workers": {"gpus": 2, "min_nodes": 1, "max_nodes": 9}, "idle_timeout_minutes": 4})
    spec = ray_job(job)["spec"]["rayClusterSpec"]
    group = spec["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 9)
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 240


def test_workers_without_gpus_ask_for_none() -> None:
    job = make_job(cluster={"workers": {"gpus": 0}}, gpu=0)
    pod = ray_job(job)["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert "tolerations" not in pod


def test_the_head_of_a_job_reads_the_spec_that_was_sent() -> None:
    mapped, job = config_map(JOB), MANIFESTS["RayJob"]
    assert mapped["data"] == {"spec.yaml": JOB.spec_text}
    head = next(pods(job))
    volume = next(volume for volume in head["volumes"] if volume["name"] == "spec")
    assert volume["configMap"]["name"] == mapped["metadata"]["name"]
    mount = next(mount for mount in head["containers"][0]["volumeMounts"] if mount["name"] == "spec")
    assert mount["readOnly"] is True
    assert job["spec"]["entrypoint"] == f"python -m tune_app run {mount['mountPath']}/spec.yaml"


def test_a_failed_job_continues_on_a_new_cluster_and_a_finished_one_leaves_none() -> None:
    spec = MANIFESTS["RayJob"]["spec"]
    assert spec["backoffLimit"] == 3
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 300


@pytest.mark.parametrize("experiment", ["demo", "Demo_1.0", "9-lives", "x" * 64])
def test_a_job_carries_the_experiment_and_a_name_that_kuberay_takes(experiment: str) -> None:
    job = make_job(experiment=experiment, attempt=12)
    manifest = ray_job(job)
    assert manifest["spec"]["metadata"]["experiment"] == experiment
    assert len(job_name(job)) <= JOB_NAME_LIMIT
    assert "tune-app/experiment" in manifest["metadata"]["labels"]
    assert len({job_name(make_job(experiment=experiment, attempt=n)) for n in range(1, 30)}) == 29


def test_a_standing_cluster_takes_jobs_with_packages() -> None:
    section = {"dependencies": "uv", "env": ["WANDB_API_KEY"], "kubernetes": {"standing": "search"}}
    plan = KubeRayPlanner().plan(make_job(cluster=section))
    assert plan.packages
    assert "uv" in plan.runtime_env
    assert "valueFrom" not in plan.files["raycluster.yaml"]
    assert set(plan.files) == {"raycluster.yaml", "spec.yaml"}
    check_manifest(read_yaml(plan.files["raycluster.yaml"]))


REFUSED = {
    "a folder without a claim": (
        make_job("/mnt/tune-app/runs", cluster={"shared_folder": "/mnt/tune-app"}),
        "cluster.kubernetes.storage_claim is missing: pods reach /mnt/tune-app/runs",
    ),
    "a folder of this machine": (make_job("/home/me/runs"), "is a folder of one machine"),
    "variables without a secret": (
        make_job(cluster={"env": ["WANDB_API_KEY"]}),
        "env_secret is missing: pods get WANDB_API_KEY from a secret",
    ),
    "packages that cannot travel": (make_job(cluster={"dependencies": "uv"}), "dependencies: uv sends our packages"),
    "a trial that fits nowhere": (make_job(gpu=4), "a trial needs 4 GPU, but a worker has 1"),
}


@pytest.mark.parametrize(("job", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_one_line(job: JobSpec, message: str) -> None:
    with pytest.raises(PlanRefused, match=message) as caught:
        KubeRayPlanner().plan(job)
    assert len(str(caught.value).splitlines()) == 1
