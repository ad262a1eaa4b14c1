"""A captured network as a model: built from its graph, with its tensors under the names that units have for them."""

from torch import Tensor

from trainables.config import CAPTURED, Architecture, ModelConfig, image_size_of
from trainables.errors import ConfigError
from trainables.graph.network_file import NetworkFile
from trainables.graph.operators import shapes
from trainables.models.fusing import fuse
from trainables.models.model import Model, build


def own_model(network: NetworkFile) -> tuple[Model, Architecture]:
    """Builds a captured network with its weights, on the CPU, and returns it with its architecture.

    Raises:
        ConfigError: it has one output.
    """
    channels, height, width = network.graph.image
    classes = shapes(network.graph)[network.graph.output][-1]
    if classes < 2:
        raise ConfigError("the network has one output: give it one for each class, two where it says yes or no.")
    model = ModelConfig(name=CAPTURED, graph=network.graph.stored())
    architecture = Architecture(
        model=model, classes=classes, channels=channels, image_size=image_size_of(height, width)
    )
    built = build(architecture)
    built.load_state_dict(unit_state(network))
    return built, architecture


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
