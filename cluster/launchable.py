"""The nodes that an autoscaler may add, as an environment variable of the head, where drivers run, says them.

Ray has a place for this (ClusterConfig in the state of the head), which its open-source autoscaler leaves empty.
"""

import os
import re
from collections.abc import Mapping

from cluster.config import Workers
from cluster.errors import PlanRefused

VARIABLE = "TUNE_APP_LAUNCHABLE"
EXAMPLE = "nodes=4,CPU=8,GPU=1"
PART = re.compile(r"([A-Za-z][A-Za-z0-9_.:-]*)=([0-9]{1,9}(?:\.[0-9]{1,4})?)")
NODES = "nodes"


def launchable_text(workers: Workers) -> str:
    """Returns workers as `nodes=4,CPU=8,GPU=1`: how many there may be, and what Ray counts on each."""
    amounts = {NODES: workers.max_nodes, "CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}
    return ",".join(f"{kind}={amount}" for kind, amount in amounts.items())


def launchable_here() -> list[tuple[Mapping[str, float], int]]:
    """Returns resources and greatest number of each kind of node as the environment says; none if it says nothing.

    Raises:
        PlanRefused: it says something else.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return []
    parts = [PART.fullmatch(part.strip()) for part in text.split(",")]
    amounts = {part[1]: float(part[2]) for part in parts if part}
    nodes = amounts.pop(NODES, 0.0)
    if len(amounts) + 1 != len(parts) or not amounts or nodes < 1 or not nodes.is_integer():
        raise PlanRefused(f"{VARIABLE} says what nodes an autoscaler may add, like {EXAMPLE}, but holds {text[:80]!r}.")
    return [(amounts, int(nodes))]
