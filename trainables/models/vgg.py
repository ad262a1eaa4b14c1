"""VGG16 with batch norm for small images (Simonyan and Zisserman, arXiv 1409.1556)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from trainables.config import Architecture

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of each stage's convolutions: configuration D of the paper."""


class VGG16(nn.Module):
    """VGG16: input (N, C, S, S) float32, output (N, classes) logits.

    Each stage ends with a 2x2 maximum, left out once a side of the map is a single pixel (inputs below 32). Between the
    convolutions and the classifier lie the hidden layers of the configuration's `head`, of that width whatever the
    width multiplier. At width 1.0 with 10 classes: 14,728,266 parameters without a head, 33,646,666 with the
    original's (4096, 4096).
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        channels, size = architecture.channels, min(architecture.image[1:])
        layers: list[nn.Module] = []
        for stage in STAGES:
            for c in stage:
                outputs = max(1, round(c * architecture.model.width))
                conv = nn.Conv2d(channels, outputs, 3, padding=1)
                layers.append(nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()))
                channels = outputs
            if size > 1:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        self.features = nn.Sequential(*layers)
        hidden = [channels, *architecture.model.head]
        self.head = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(hidden))
        self.dropout = nn.Dropout(architecture.model.dropout)
        self.classifier = nn.Linear(hidden[-1], architecture.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.mean(self.features(x), dim=(2, 3))
        for layer in self.head:
            y = torch.relu(layer(self.dropout(y)))
        logits: Tensor = self.classifier(self.dropout(y))
        return logits
