"""MobileNetV2 for small images (Sandler et al., arXiv 1801.04381): stem and 24-channel stage keep stride 1."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from trainables.config import Architecture
from trainables.models.graph import Layer, Mean, Quantize, Residual, Step
from trainables.models.model import Model
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import ConvUnit, LinearUnit, QuantPoint

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion t, channels c, repeats n and stride s of each stage: table 2 of the paper, the second stage at stride 1."""
HEAD = 1280
"""Channels of the last convolution, from the same table."""


def _scaled(channels: float) -> int:
    """Rounds a width to the nearest multiple of 8, at least 8 and at most a tenth below it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class InvertedResidual(nn.Module):
    """A block of three convolutions (expand, depthwise, project); the sum with the input is quantized once."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, *, expand: bool) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.expand: nn.Module = (
            ConvUnit(inputs, hidden, 1, role="expansion", activation=nn.ReLU6) if expand else nn.Identity()
        )
        self.depthwise = ConvUnit(
            hidden, hidden, 3, role="depthwise", stride=stride, groups=hidden, activation=nn.ReLU6
        )
        self.project = ConvUnit(hidden, outputs, 1, role="projection", quantize_output=False)
        self.out_point = QuantPoint("residual", signed=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        out: Tensor = self.out_point(x + y if self.residual else y)
        return out

    def graph(self, name: str) -> list[Step]:
        """Returns the steps of the block, whose name is given."""
        first = ("expand",) if isinstance(self.expand, ConvUnit) else ()
        body = [Layer(f"{name}.{part}") for part in (*first, "depthwise", "project")]
        steps: list[Step] = [Residual(tuple(body))] if self.residual else [*body]
        return [*steps, Quantize(f"{name}.out_point")]


class MobileNetV2(Model):
    """MobileNetV2: input (N, C, S, S) float32 with S a multiple of 8, output (N, classes) logits.

    At width 1.0 with 3 channels: 2,236,682 parameters for 10 classes, 2,351,972 for 100.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.model.width
        channels = _scaled(32 * width)
        self.stem = ConvUnit(architecture.channels, channels, 3, role="first_conv", activation=nn.ReLU6)
        blocks: list[InvertedResidual] = []
        for t, c, n, s in STAGES:
            for repeat in range(n):
                hidden = architecture.widths.get(f"blocks.{len(blocks)}", channels * t)
                outputs = _scaled(c * width)
                blocks.append(InvertedResidual(channels, hidden, outputs, s if repeat == 0 else 1, expand=t != 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        head = architecture.widths.get("head", _scaled(HEAD * max(1.0, width)))
        self.head = ConvUnit(channels, head, 1, role="head", activation=nn.ReLU6)
        self.dropout = nn.Dropout(architecture.model.dropout)
        self.classifier = LinearUnit(head, architecture.classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.dropout(torch.mean(y, dim=(2, 3))))
        return logits

    def prune_groups(self) -> list[PruneGroup]:
        """Returns the expansion channels of each block that expands, 16 groups, and the head, which is optional."""
        names = [f"blocks.{i}" for i, block in enumerate(self.blocks) if isinstance(block.expand, ConvUnit)]
        blocks = [PruneGroup(n, f"{n}.expand", through=(f"{n}.depthwise",), sinks=(f"{n}.project",)) for n in names]
        return [*blocks, PruneGroup(name="head", source="head", sinks=("classifier",), optional=True)]

    def graph(self) -> list[Step]:
        blocks = cast(Iterable[InvertedResidual], self.blocks)
        steps = [step for i, block in enumerate(blocks) for step in block.graph(f"blocks.{i}")]
        return [Layer("stem"), *steps, Layer("head"), Mean(), Layer("classifier")]
