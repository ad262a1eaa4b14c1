import re
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.credentials import credential_in
from cluster.errors import PlanRefused
from cluster.image import HOME, PYTHON, UID, build_commands, image_of
from cluster.working_dir import PACKAGES, SUFFIXES
from tests.cluster.factories import IMAGE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "cluster/Dockerfile").read_text()
IGNORED = (ROOT / "cluster/Dockerfile.dockerignore").read_text()
LINES = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{name} ")]


def test_the_image_ends_as_a_user_that_is_not_root() -> None:
    assert instructions("USER") == [str(UID)]
    assert LINES.index(f"USER {UID}") > max(i for i, line in enumerate(LINES) if line.startswith("FROM"))
    assert f"useradd --uid {UID}" in DOCKERFILE
    assert f"HOME={HOME} " in instructions("ENV")[0]


def test_the_base_is_pinned_and_of_the_python_that_nodes_run() -> None:
    base = instructions("ARG")[0]
    assert base.startswith(f"BASE=python:{PYTHON}-")
    assert "latest" not in DOCKERFILE
    assert set(instructions("FROM")) == {"${BASE} AS base", "base AS build", "base"}


def test_dependencies_are_those_of_the_lock_with_their_hashes() -> None:
    assert any("--require-hashes -r /src/requirements.lock" in line for line in instructions("RUN"))
    assert "http" not in "".join(instructions("RUN"))


def test_nothing_secret_is_named() -> None:
    assert credential_in(DOCKERFILE) is None
    assert not re.search(r"(?i)password|secret|api_key|auth_token", DOCKERFILE)


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    first, *rest = [line for line in IGNORED.splitlines() if line and not line.startswith("#")]
    assert first == "*"
    assert all(line.startswith("!") for line in rest)
    seen = {line[1:].partition("/")[0] for line in rest}
    copied = {s for line in instructions("COPY") if "--from" not in line for s in line.split()[:-1]}
    assert seen == copied
    assert all((ROOT / name).exists() for name in copied)
    assert set(PACKAGES) < copied


def test_the_build_sees_all_files_of_our_packages() -> None:
    patterns = {line[1:] for line in IGNORED.splitlines() if line.startswith("!")}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix in SUFFIXES:
                assert f"{package}/**/*{path.suffix}" in patterns, path


@pytest.mark.parametrize(("gpus", "variant"), [(0, "cpu"), (2, "gpu")])
def test_with_uv_the_image_is_rays_own(gpus: int, variant: str) -> None:
    config = ClusterConfig.model_validate({"dependencies": "uv", "workers": {"gpus": gpus}, "image": IMAGE})
    assert re.fullmatch(rf"rayproject/ray:\d+\.\d+\.\d+-py311-{variant}", image_of(config))
    assert build_commands(config) == ()


def test_an_image_is_built_from_the_checkout_and_pushed() -> None:
    build, push = build_commands(ClusterConfig(image=IMAGE), launcher="boto3")
    assert build.startswith(f"docker build --file cluster/Dockerfile --build-arg LAUNCHER=boto3 --tag {IMAGE} .")
    assert push == f"docker push {IMAGE}"


def test_an_image_without_a_registry_is_refused() -> None:
    assert re.fullmatch(r"tune-app:\d+\.\d+\.\d+", image_of(ClusterConfig()))
    with pytest.raises(PlanRefused, match=r"write it as registry.example.com/tune-app:\d"):
        build_commands(ClusterConfig())
