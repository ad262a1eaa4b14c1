"""VGG16 with batch norm for small images (Simonyan and Zisserman, arXiv 1409.1556), one linear layer as head."""

import torch
from torch import Tensor, nn

from trainables.config import Architecture, LayerGroup
from trainables.models.model import Model
from trainables.models.units import ConvUnit, LinearUnit
from trainables.prune.groups import PruneGroup

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(Model):
    """Input (N, C, S, S) float32, output (N, classes) logits; 14,728,266 parameters for 10 classes at width 1.0.

    Each stage ends with a 2x2 maximum, left out once the map is a single pixel (inputs below 32).
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
        self.dropout = nn.Dropout(architecture.model.dropout)
        self.classifier = LinearUnit(channels, architecture.classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(torch.mean(self.features(x), dim=(2, 3))))
        return logits

    def prune_groups(self) -> list[PruneGroup]:
        """The outputs of each convolution: 13 groups, the last one feeds the classifier."""
        sinks = [*self._conv_names[1:], "classifier"]
        return [PruneGroup(name=n, source=n, sinks=(s,)) for n, s in zip(self._conv_names, sinks, strict=True)]
