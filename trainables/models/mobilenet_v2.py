"""MobileNetV2 for small images (Sandler et al., arXiv 1801.04381): stem and 24-channel stage keep stride 1."""

import torch
from torch import Tensor, nn

from trainables.config import Architecture

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion t, channels c, repeats n and stride s of each stage: table 2 of the paper, the second stage at stride 1."""
HEAD = 1280
"""Channels of the last convolution, from the same table."""


def _scaled(channels: float) -> int:
    """Rounds a width to the nearest multiple of 8, at least 8 and at most a tenth below it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Makes a convolution that keeps the map's size, but for its stride, with batch norm and perhaps ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if activation else []))


class InvertedResidual(nn.Module):
    """A block of three convolutions (expand, depthwise, project), and the sum with its input where shapes agree."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, *, expand: bool) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.expand = _convolution(inputs, hidden, 1) if expand else nn.Sequential()
        self.depthwise = _convolution(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = _convolution(hidden, outputs, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2: input (N, C, S, S) float32 with S a multiple of 8, output (N, classes) logits.

    At width 1.0 with 3 channels: 2,236,682 parameters for 10 classes, 2,351,972 for 100.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.model.width
        channels = _scaled(32 * width)
        self.stem = _convolution(architecture.channels, channels, 3)
        blocks: list[InvertedResidual] = []
        for t, c, n, s in STAGES:
            for repeat in range(n):
                outputs = _scaled(c * width)
                stride = s if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, channels * t, outputs, stride, expand=t != 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        head = _scaled(HEAD * max(1.0, width))
        self.head = _convolution(channels, head, 1)
        self.dropout = nn.Dropout(architecture.model.dropout)
        self.classifier = nn.Linear(head, architecture.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.dropout(torch.mean(y, dim=(2, 3))))
        return logits
