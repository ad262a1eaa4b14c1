"""unit_state: the tensors of a captured network under the names that its units have for them."""

from torch import Tensor

from trainables.graph.network_file import NetworkFile
from trainables.models.fusing import fuse


def unit_state(network: NetworkFile) -> dict[str, Tensor]:
    """Returns the tensors of a network under the names that its units have."""
    of = {}
    for name, plan in fuse(network.graph).units.items():
        of[plan.layer.name] = f"{name}.layer"
        if plan.norm is not None:
            of[plan.norm.name] = f"{name}.bn"
    alone = {n.name: f"{n.name}.bn" for n in network.graph.nodes if n.operator == "batch_norm" and n.name not in of}
    state = {}
    for key, tensor in network.state.items():
        node, _, part = key.rpartition(".")
        state[f"{of.get(node) or alone.get(node, node)}.{part}"] = tensor
    return state
