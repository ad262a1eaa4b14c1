"""Every plan, word for word, beside this file in golden/.

After a change that was meant: UPDATE_GOLDEN=1 pytest tests/cluster/test_plans.py, then read the difference.
"""

import importlib.metadata
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from cluster import load
from cluster.credentials import credential_in
from cluster.job import JobSpec, SubmitPlan
from tests.cluster.factories import GCP, SHARED, make_job, read_yaml

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = {"ray": "2.60.0", "tune-app": "0.1.0", "torch": "2.15.0", "optuna": "5.0.0"}
CLAIM = {"shared_folder": "/mnt/tune-app", "kubernetes": {"storage_claim": "tune-app-runs"}}
KUBERNETES = {
    "namespace": "search",
    "storage_secret": "bucket-access",
    "env_secret": "tune-app-env",
    "image_pull_secret": "registry",
    "head_selector": {"karpenter.sh/capacity-type": "on-demand"},
    "worker_selector": {"karpenter.sh/capacity-type": "spot"},
    "redis": {"address": "redis.search:6379", "secret": "redis"},
}
CASES: dict[str, tuple[str, JobSpec]] = {
    "aws": ("aws", make_job()),
    "aws_uv_nfs": ("aws", make_job("/mnt/tune-app/runs", cluster={"dependencies": "uv", **SHARED})),
    "gcp": ("gcp", make_job("gs://bucket/runs")),
    "gcp_on_demand": (
        "gcp",
        make_job("gs://bucket/runs", cluster={"workers": {"spot": False}, "gcp": {**GCP, "accelerator": ""}}),
    ),
    "ray": ("ray", make_job(cluster={"env": ["WANDB_API_KEY"]}, attempt=2)),
    "ray_uv": ("ray", make_job("/mnt/tune-app/runs", cluster={"dependencies": "uv"}, max_concurrent=4)),
    "kuberay": ("kuberay", make_job("/mnt/tune-app/runs", cluster=CLAIM, experiment="Digits_1", attempt=2)),
    "kuberay_bucket": ("kuberay", make_job(cluster={"env": ["WANDB_API_KEY"], "kubernetes": KUBERNETES})),
    "kuberay_standing": (
        "kuberay",
        make_job(cluster={"dependencies": "uv", "kubernetes": {"standing": "search", "storage_secret": "bucket"}}),
    ),
}
FOR_A_PERSON = [case for case, (backend, _) in CASES.items() if backend != "ray"]
"""The machines are to be started, by hand."""


@pytest.fixture(autouse=True)
def _fixed_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that new releases of dependencies leave the golden files alone."""
    monkeypatch.setattr(importlib.metadata, "version", VERSIONS.__getitem__)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["ray>=2.56", "torch>=2.11", "optuna>=5.0"])


def plan_of(case: str) -> SubmitPlan:
    backend, job = CASES[case]
    return load(backend)().plan(job)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_is_the_one_that_was_agreed(case: str) -> None:
    text, file = plan_of(case).to_yaml(), GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        assert not os.environ.get("CI"), "UPDATE_GOLDEN would make every plan the agreed one: unset it"
        file.write_text(text)
    assert text == file.read_text()


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_plan_holds_no_credential_and_listens_nowhere(case: str) -> None:
    text = plan_of(case).to_yaml()
    assert credential_in(text) is None
    assert "0.0.0.0" not in text
    assert "::/0" not in text


@pytest.mark.parametrize("case", CASES)
def test_a_plan_can_be_read_back(case: str) -> None:
    plan = plan_of(case)
    assert SubmitPlan.model_validate(read_yaml(plan.to_yaml())) == plan


@pytest.mark.parametrize("case", FOR_A_PERSON)
def test_commands_name_files_of_the_plan(case: str) -> None:
    plan = plan_of(case)
    words = {word for command in plan.commands for word in shlex.split(command, comments=True)}
    named = {word for word in words if word.endswith(".yaml")}
    assert named
    assert named <= plan.files.keys()


@pytest.mark.parametrize("case", FOR_A_PERSON)
def test_commands_are_shell(case: str) -> None:
    for command in plan_of(case).commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("case", CASES)
def test_the_driver_stays_on_the_head(case: str) -> None:
    assert plan_of(case).entrypoint_num_cpus == 0


@pytest.mark.parametrize("case", FOR_A_PERSON)
def test_the_bill_can_be_read(case: str) -> None:
    known = {"workers_at_least", "workers_at_most", "gpus_at_most", "spot_workers", "idle_timeout_minutes"}
    assert known | {"trials_at_once"} <= plan_of(case).facts.keys()
