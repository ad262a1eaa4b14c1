"""Plans and jobs on other machines, for whoever sends a search there; imports none of the other packages."""

import difflib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from cluster.errors import PlanRefused

if TYPE_CHECKING:
    from cluster.job import Planner

BACKENDS = {
    "local": "cluster.local:LocalBackend",
    "ray": "cluster.ray_jobs:RayBackend",
    "kuberay": "cluster.kuberay:KubeRayPlanner",
    "aws": "cluster.aws:AwsPlanner",
    "gcp": "cluster.gcp:GcpPlanner",
}
"""Where a job can run: name → "module:Class", imported when it is used."""


def load(name: str) -> "Callable[..., Planner]":
    """Returns the class of a backend by its name, a `cluster.job.Backend` if it sends jobs, or raises PlanRefused."""
    if name not in BACKENDS:
        close = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PlanRefused(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}.{hint}")
    return cast("Callable[..., Planner]", pkgutil.resolve_name(BACKENDS[name]))
