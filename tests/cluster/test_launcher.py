"""The cluster files of AWS and GCP are what Ray's launcher takes, and open nothing."""

import importlib.util
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from cluster import load
from cluster.errors import PlanRefused
from cluster.image import HOME, UID
from cluster.job import JobSpec, SubmitPlan
from cluster.launchable import VARIABLE, launchable_here
from tests.cluster.factories import AWS, SHARED, make_job, read_yaml
from tests.cluster.strategies import legal_jobs

CLOUDS = ("aws", "gcp")
FEW = settings(max_examples=25)


def plan_of(cloud: str, job: JobSpec) -> SubmitPlan:
    return load(cloud)().plan(job)


def cluster_of(cloud: str, job: JobSpec) -> dict[str, Any]:
    return read_yaml(plan_of(cloud, job).files["cluster.yaml"])


def node_of(cluster: dict[str, Any], kind: str) -> dict[str, Any]:
    return cluster["available_node_types"][kind]["node_config"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Ray's own, read without importing Ray."""
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return json.loads((Path(found.origin).parent / "autoscaler/ray-schema.json").read_text())


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_legal_section_gives_a_file_that_rays_schema_accepts(cloud: str, schema: dict[str, Any]) -> None:
    validator = jsonschema.Draft7Validator(schema)

    @FEW
    @given(legal_jobs())
    def check(job: JobSpec) -> None:
        plan = plan_of(cloud, job)
        validator.validate(read_yaml(plan.files["cluster.yaml"]))
        assert "0.0.0.0" not in plan.to_yaml()

    check()


def test_the_schema_refuses_a_key_that_it_does_not_know(schema: dict[str, Any]) -> None:
    wrong = {**cluster_of("aws", make_job()), "idle_timeout_minute": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nothing_of_rays_own_defaults_is_mixed_in(cloud: str) -> None:
    """Ray fills what a file leaves open, with a dashboard that listens everywhere and wheels of the day."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    ours = cluster_of(cloud, make_job())
    prepared = prepare_config(ours)
    validate_config(prepared)
    assert {key: value for key, value in prepared.items() if ours.get(key) != value} == {}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_head_runs_no_trial_and_the_dashboard_listens_on_loopback(cloud: str) -> None:
    cluster = cluster_of(cloud, make_job())
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}
    start = cluster["head_start_ray_commands"][-1]
    assert "--num-cpus=0" in start
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_process_asks_for_the_token_and_its_file_travels(cloud: str) -> None:
    cluster = cluster_of(cloud, make_job())
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"][f"{HOME}/.ray/auth_token"] == "~/.ray/auth_token"
    commands = plan_of(cloud, make_job()).commands
    before_up = commands[: [command.startswith("ray up") for command in commands].index(True)]
    assert any("ray get-auth-token --generate >/dev/null" in c and "chmod 600" in c for c in before_up)


@pytest.mark.parametrize(("user", "code"), [(UID, 0), (UID + 1, 1), (0, 1)])
def test_a_machine_whose_user_could_not_read_the_token_is_refused_at_its_start(user: int, code: int) -> None:
    command = cluster_of("aws", make_job())["initialization_commands"][0]
    script = f"id() {{ echo {user}; }}; {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert (f"but it is {user}" in done.stdout) == bool(code)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_everything_that_machines_run_is_shell(cloud: str) -> None:
    cluster = cluster_of(cloud, make_job("/mnt/tune-app/runs", cluster=SHARED))
    for kind in ("initialization", "head_start_ray", "worker_start_ray"):
        for command in cluster[f"{kind}_commands"]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_containers_have_no_privileges(cloud: str) -> None:
    options = cluster_of(cloud, make_job())["docker"]["run_options"]
    assert {"--cap-drop ALL", "--security-opt no-new-privileges"} <= set(options)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_head_knows_what_nodes_may_come(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(cluster={"workers": {"cpus": 8, "gpus": 2, "max_nodes": 7}})
    [option] = [o for o in cluster_of(cloud, job)["docker"]["run_options"] if VARIABLE in o]
    assert shlex.split(option) == ["--env", f"{VARIABLE}=nodes=7,CPU=8,GPU=2"]
    monkeypatch.setenv(*option.removeprefix("--env ").split("=", 1))
    assert launchable_here() == [({"CPU": 8, "GPU": 2}, 7)]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_workers_are_counted_and_given_back(cloud: str) -> None:
    job = make_job(
        cluster={"workers": {"cpus": 8, "gpus": 2, "min_nodes": 1, "max_nodes": 7}, "idle_timeout_minutes": 3}
    )
    cluster = cluster_of(cloud, job)
    worker = cluster["available_node_types"]["worker"]
    assert worker["resources"] == {"CPU": 8, "GPU": 2}
    assert (worker["min_workers"], worker["max_workers"], cluster["max_workers"]) == (1, 7, 7)
    assert cluster["idle_timeout_minutes"] == 3
    assert cluster["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("spot", [True, False])
def test_only_workers_are_spot_machines(spot: bool) -> None:
    job = make_job(cluster={"workers": {"spot": spot}})
    aws, gcp = cluster_of("aws", job), cluster_of("gcp", job)
    assert ("InstanceMarketOptions" in node_of(aws, "worker")) == spot
    assert (node_of(gcp, "worker")["scheduling"].get("provisioningModel") == "SPOT") == spot
    assert "InstanceMarketOptions" not in node_of(aws, "head")
    assert "scheduling" not in node_of(gcp, "head")


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_aws_disks_are_encrypted_and_metadata_needs_a_session(kind: str) -> None:
    node = node_of(cluster_of("aws", make_job()), kind)
    assert [disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"]] == [True]
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def test_no_security_group_is_widened() -> None:
    cluster = cluster_of("aws", make_job())
    assert "security_group" not in cluster["provider"]
    assert (
        not {"SecurityGroupIds", "NetworkInterfaces"} & (node_of(cluster, "head") | node_of(cluster, "worker")).keys()
    )


def test_gpus_of_gcp_are_attached_unless_the_machine_type_has_them() -> None:
    attached = make_job(cluster={"workers": {"gpus": 2}})
    built_in = make_job(cluster={"gcp": {**attached.cluster.gcp.model_dump(), "accelerator": ""}})
    assert node_of(cluster_of("gcp", attached), "worker")["guestAccelerators"] == [
        {"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 2}
    ]
    assert "guestAccelerators" not in node_of(cluster_of("gcp", built_in), "worker")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_shared_folder_is_mounted_on_the_machine_and_in_its_container(cloud: str) -> None:
    cluster = cluster_of(cloud, make_job("/mnt/tune-app/runs", cluster=SHARED))
    assert "--volume /mnt/tune-app:/mnt/tune-app" in cluster["docker"]["run_options"]
    assert any("mount -t nfs4" in command for command in cluster["initialization_commands"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_with_uv_nodes_start_from_rays_image_and_nothing_is_built(cloud: str) -> None:
    plan = plan_of(cloud, make_job(cluster={"dependencies": "uv"}))
    image = read_yaml(plan.files["cluster.yaml"])["docker"]["image"]
    assert image.startswith("rayproject/ray:")
    assert image.endswith("-py311-gpu")
    assert not any("docker build" in command for command in plan.commands)
    assert plan.packages == ("cluster", "search_spaces", "trainables", "tune_app")


REFUSED = {
    "a folder of this machine": ("aws", make_job("/home/me/runs"), "is a folder of one machine: use s3://… or gs://…"),
    "a folder beside the shared one": (
        "gcp",
        make_job("/mnt/tune-app-2/runs", cluster=SHARED),
        r"below cluster.shared_folder \(/mnt/tune-app\)",
    ),
    "more GPUs than a worker has": ("aws", make_job(gpu=2), "a trial needs 2 GPU, but a worker has 1: raise"),
    "more CPUs than a worker has": ("gcp", make_job(cpu=5), "a trial needs 5 CPU, but a worker has 4: raise"),
    "no machine image on AWS": ("aws", make_job(cluster={"aws": {}}), "cluster.aws.image_id is missing"),
    "no machine image on GCP": (
        "gcp",
        make_job(cluster={"gcp": {"project": "my-project"}}),
        "cluster.gcp.source_image is missing",
    ),
    "no project": ("gcp", make_job(cluster={"gcp": {}}), "cluster.gcp.project is missing"),
    "a bucket that workers cannot write to": (
        "aws",
        make_job(cluster={"aws": {**AWS, "worker_profile": ""}}),
        "cluster.aws.worker_profile is missing: workers write to s3://bucket/runs",
    ),
    "a head that may not give workers their profile": (
        "aws",
        make_job(cluster={"aws": {**AWS, "head_profile": ""}}),
        r"cluster.aws.head_profile is missing: the head gives workers the profile tune-app-worker.*iam:PassRole",
    ),
    "an image in no registry": ("aws", make_job(cluster={"image": ""}), "without a registry that nodes could pull"),
}


@pytest.mark.parametrize(("cloud", "job", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_in_one_line(cloud: str, job: JobSpec, message: str) -> None:
    with pytest.raises(PlanRefused, match=message) as caught:
        plan_of(cloud, job)
    assert len(str(caught.value).splitlines()) == 1
