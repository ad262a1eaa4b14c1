"""VGG16 with batch norm for small images (Simonyan and Zisserman, arXiv 1409.1556)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.config import Architecture, LayerGroup
from trainables.models.graph import Layer, MaxPool, Mean, Step
from trainables.models.model import Model
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import ConvUnit, LinearUnit

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of each stage's convolutions: configuration D of the paper."""


class VGG16(Model):
    """VGG16: input (N, C, S, S) float32, output (N, classes) logits.

    Each stage ends with a 2x2 maximum, left out once the map is a single pixel (inputs below 32). Between the
    convolutions and the classifier lie the hidden layers of the configuration's `head`, of that width whatever the
    width multiplier. At width 1.0 with 10 classes: 14,728,266 parameters without a head, 33,646,666 with the
    original's (4096, 4096).
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, size = architecture.channels, architecture.image_size
        layers: list[nn.Module] = []
        self._conv_names: list[str] = []
        for stage in STAGES:
            for c in stage:
                name = f"features.{len(layers)}"
                outputs = architecture.widths.get(name, max(1, round(c * architecture.model.width)))
                role: LayerGroup = "conv" if self._conv_names else "first_conv"
                layers.append(ConvUnit(channels, outputs, 3, role=role, bias=True, activation=nn.ReLU))
                self._conv_names.append(name)
                channels = outputs
            if size > 1:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        self.features = nn.Sequential(*layers)
        hidden: list[LinearUnit] = []
        for i, width in enumerate(architecture.model.head):
            outputs = architecture.widths.get(f"head.{i}", width)
            hidden.append(LinearUnit(channels, outputs, role="head", activation=nn.ReLU))
            channels = outputs
        self.head = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(architecture.model.dropout)
        self.classifier = LinearUnit(channels, architecture.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.mean(self.features(x), dim=(2, 3))
        for layer in self.head:
            y = layer(self.dropout(y))
        logits: Tensor = self.classifier(self.dropout(y))
        return logits

    def prune_groups(self) -> list[PruneGroup]:
        """Returns the outputs of each convolution and hidden layer; each feeds the layer after it."""
        sources = [*self._conv_names, *self._head_names(), "classifier"]
        return [PruneGroup(name=source, source=source, sinks=(sink,)) for source, sink in pairwise(sources)]

    def graph(self) -> list[Step]:
        steps: list[Step] = [
            MaxPool(2) if isinstance(module, nn.MaxPool2d) else Layer(f"features.{i}")
            for i, module in enumerate(self.features)
        ]
        return [*steps, Mean(), *map(Layer, self._head_names()), Layer("classifier")]

    def _head_names(self) -> list[str]:
        return [f"head.{i}" for i in range(len(self.head))]
