"""Model: what every network offers, and how one is built from its architecture."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from trainables.config import MODELS, Architecture, ModelConfig
from trainables.data.data_sets import DataSet
from trainables.models.graph import Step
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import count_parameters, initialize_


class Model(nn.Module):
    """The abstract class of networks made of units. A subclass is built from an Architecture alone."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Computes the logits (N, classes) of images (N, C, S, S) float32."""

    @abstractmethod
    def prune_groups(self) -> list[PruneGroup]:
        """Returns the sets of channels that can only be removed together, named by keys of Architecture.widths."""

    @abstractmethod
    def graph(self) -> list[Step]:
        """Returns what forward() computes in evaluation mode, as data."""


def build(architecture: Architecture) -> Model:
    """Builds a network with fresh weights; seed torch before if they matter."""
    model: Model = MODELS[architecture.model.name](architecture)
    initialize_(model)
    return model


def unpruned(architecture: Architecture) -> Model:
    """Builds the network before pruning, on the meta device: without memory for its tensors."""
    with torch.device("meta"):
        return build(architecture.model_copy(update={"widths": {}}))


def baseline_architecture(model: ModelConfig, data: DataSet) -> Architecture:
    """Returns the unpruned architecture that fits a data set."""
    _, channels, size, _ = data.train.images.shape
    return Architecture(model=model, classes=data.classes, channels=channels, image_size=size)


def fp32_bytes(architecture: Architecture) -> int:
    """Counts 4 bytes per parameter of the unpruned network: the numerator of every compression ratio."""
    return 4 * count_parameters(unpruned(architecture))
