"""Model: what every network offers, and how one is built from its architecture."""

from abc import abstractmethod

from torch import Tensor, nn

from trainables.config import MODELS, Architecture, ModelConfig
from trainables.data.data_sets import DataSet
from trainables.models.graph import Step
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import count_parameters, initialize_


class Model(nn.Module):
    """A network made of units; abstract. A subclass is built from an Architecture alone."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) float32 → (N, classes) logits."""

    @abstractmethod
    def prune_groups(self) -> list[PruneGroup]:
        """Sets of channels that can only be removed together; their names are keys of Architecture.widths."""

    @abstractmethod
    def graph(self) -> list[Step]:
        """What forward() computes in evaluation mode, as data."""


def build(architecture: Architecture) -> Model:
    """A network with fresh weights; seed torch before when they matter."""
    model: Model = MODELS[architecture.model.name](architecture)
    initialize_(model)
    return model


def baseline_architecture(model: ModelConfig, data: DataSet) -> Architecture:
    """The unpruned architecture that fits a data set."""
    _, channels, size, _ = data.train.images.shape
    return Architecture(model=model, classes=data.classes, channels=channels, image_size=size)


def fp32_bytes(architecture: Architecture) -> int:
    """4 bytes per parameter of the unpruned network: the numerator of every compression ratio."""
    return 4 * count_parameters(build(architecture.model_copy(update={"widths": {}})))
