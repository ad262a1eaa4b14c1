"""Probes: the preflight's questions, put to every node of the cluster."""

import contextlib
import functools
import uuid
from collections.abc import Callable
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import first_line
from trainables.storage import create_once, remove
from tune_app.engine.preflight import Check, NodeReport, checks, report_node
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray.session import launchable
from tune_app.spec.experiment import ExperimentSpec

ANSWER_S = 30.0
"""Seconds for a node to report: the start of a process that imports this package, with room for a loaded node."""


def check_cluster(spec: ExperimentSpec) -> list[Check]:
    """Checks the cluster that this process is connected to.

    Nodes without CPUs, such as a head that only manages, get no trials and are not asked.
    """
    folder = ExperimentFolder(spec.folder)
    token = folder.path / f".token-{uuid.uuid4().hex}"
    create_once(token, b"ok\n")
    try:
        driver = report_node(spec, token.name)
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        reports = [driver] if _is_here(nodes) else _ask(nodes, spec, token.name)
    finally:
        remove(token)
        if isinstance(folder.path, Path):
            with contextlib.suppress(OSError):  # a folder that the token made
                folder.path.rmdir()
    return checks(
        spec, driver, reports, live=[node["Resources"] for node in nodes], launchable=[kind for kind, _ in launchable()]
    )


def _is_here(nodes: list[dict[str, object]]) -> bool:
    """Whether the cluster is this machine alone."""
    return [node["NodeID"] for node in nodes] == [ray.get_runtime_context().get_node_id()]


def _ask(nodes: list[dict[str, object]], spec: ExperimentSpec, token: str) -> list[NodeReport]:
    task = ray.remote(num_cpus=0, max_retries=1, name="asking a node")(_report)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            spec.model_dump_json(), token
        ): str(node["NodeManagerHostname"])
        for node in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    for ref in silent:
        ray.cancel(ref, force=True)
    late = f"no answer within {ANSWER_S:g} s"
    return [
        *(heard(functools.partial(ray.get, ref), asked[ref]) for ref in answered),
        *(NodeReport(host=asked[ref], silence=late) for ref in silent),
    ]


def heard(answer: Callable[[], NodeReport], host: str) -> NodeReport:
    """Returns what a node answers; an error there, such as a missing package, or a lost node, is a report too."""
    try:
        return answer()
    except RayError as err:
        return NodeReport(host=host, silence=first_line(getattr(err, "cause", None) or err).rstrip(". "))


def _report(spec_json: str, token: str) -> NodeReport:
    return report_node(ExperimentSpec.model_validate_json(spec_json), token)
