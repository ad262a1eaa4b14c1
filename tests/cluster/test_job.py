import pytest
from pydantic import ValidationError

from cluster import BACKENDS, load
from cluster.errors import PlanRefused
from cluster.job import Backend, JobState, SubmitPlan
from tests.cluster.factories import make_job, read_yaml
from tests.cluster.test_credentials import EXAMPLES


def test_a_second_attempt_has_an_id_of_its_own() -> None:
    assert [make_job(attempt=n).submission_id for n in (1, 2)] == ["demo-1", "demo-2"]


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_waits_or_runs_is_not_at_its_end(state: JobState) -> None:
    assert state.is_final == (state.value in {"succeeded", "failed", "stopped"})


def test_a_text_that_is_not_that_of_its_digest_is_refused() -> None:
    with pytest.raises(ValidationError, match="spec_sha256 is not that of spec_text"):
        make_job(spec_text="name: other\n")


def test_a_spec_with_a_credential_is_refused_and_the_credential_is_not_repeated() -> None:
    leak = EXAMPLES["a password in an address"]
    with pytest.raises(PlanRefused) as caught:
        make_job(leak)
    assert "the spec holds what looks like a password in an address" in str(caught.value)
    assert leak not in str(caught.value)


@pytest.mark.parametrize("path", ["../spec.yaml", "/etc/passwd", ".ssh/config", "a/../b", "a//b", "a/", ""])
def test_a_file_cannot_leave_the_plans_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="a file has a relative path"):
        SubmitPlan(backend="local", submission_id="demo-1", entrypoint="true", files={path: ""})


def test_a_plan_is_printed_the_same_each_time_and_can_be_read_back() -> None:
    plan = SubmitPlan(backend="local", submission_id="demo-1", entrypoint="true", files={"spec.yaml": "a: 1\nb: 2\n"})
    assert plan.to_yaml() == plan.to_yaml()
    assert SubmitPlan.model_validate(read_yaml(plan.to_yaml())) == plan


def test_an_unknown_backend_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PlanRefused, match=r"unknown backend 'kubray'; known: local, .*Did you mean 'kuberay'"):
        load("kubray")


@pytest.mark.parametrize("name", BACKENDS)
def test_backends_that_send_jobs_are_told_from_those_that_only_plan(name: str) -> None:
    assert isinstance(load(name)(), Backend) == (name in {"local", "ray"})
