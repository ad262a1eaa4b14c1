"""Container images of the nodes: ours, built from the Dockerfile beside this file, or Ray's own."""

import importlib.metadata
import shlex

from cluster.config import ClusterConfig
from cluster.errors import PlanRefused

PYTHON = "3.11"
HOME = "/home/ray"
"""The home folder of the user inside, the same in Ray's image and in ours."""
UID = 1000
"""The number of the user inside, who is never root."""


def ray_version() -> str:
    """Returns the release of Ray that all nodes run."""
    return importlib.metadata.version("ray")


def image_of(config: ClusterConfig) -> str:
    """Returns the image that nodes run: with `uv` it is Ray's own, since the rest is installed on the node."""
    if config.dependencies == "uv":
        variant = "gpu" if config.workers.gpus else "cpu"
        return f"rayproject/ray:{ray_version()}-py{PYTHON.replace('.', '')}-{variant}"
    return config.image or f"tune-app:{importlib.metadata.version('tune-app')}"


def build_commands(config: ClusterConfig, *, launcher: str = "") -> tuple[str, ...]:
    """Returns the commands by which a person builds and pushes our image; `launcher` is the cloud's client for Ray's
    launcher.

    Raises:
        PlanRefused: the image's name holds no registry, so that no node could pull it.
    """
    if config.dependencies == "uv":
        return ()
    image = image_of(config)
    if "/" not in image:
        raise PlanRefused(
            f"cluster.image is {image!r}, without a registry that nodes could pull it from: "
            f"write it as registry.example.com/{image}, or choose dependencies: uv."
        )
    name, extra = shlex.quote(image), f" --build-arg LAUNCHER={launcher}" if launcher else ""
    return (
        f"docker build --file cluster/Dockerfile{extra} --tag {name} .  # in a checkout of tune-app",
        f"docker push {name}",
    )
