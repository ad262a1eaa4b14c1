"""ResNets for small images, as anyone writes them: measured by benchmarks, captured in tests."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """A residual block whose shortcut has no weights: every second pixel, and channels of zeros (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grown = outputs - inputs
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.grown:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.grown // 2, self.grown // 2))
        return F.relu(y + x)


class ResNet(nn.Module):
    """A ResNet for small images (He et al., arXiv 1512.03385, section 4.2) of three stages."""

    def __init__(self, blocks: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, (outputs, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            layers = []
            for block in range(blocks):
                layers.append(BasicBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


class ResNet20(ResNet):
    """The ResNet with three blocks in each stage."""

    def __init__(self) -> None:
        super().__init__(blocks=3)


class ResNetOnPixels(ResNet):
    """The same for pixels in 0..255, which it normalizes itself: a teacher for networks that take such pixels."""

    def __init__(self, blocks: int = 1, classes: int = 10) -> None:
        super().__init__(blocks, classes)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.register_buffer("mean", (255 * mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", (255 * std).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


class TensorFlowBlock(nn.Module):
    """A residual block of MLPerf Tiny's ResNet-8: biases, "same" padding, a shortcut of a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=2 - stride)
        self.bn1 = nn.BatchNorm2d(outputs, 1e-3)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs, 1e-3)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x, (0, 1, 0, 1)) if self.stride > 1 else x
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(y)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nn.Module):
    """The image classifier of MLPerf Tiny, for pixels in 0..255."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16, 1e-3)
        self.block1 = TensorFlowBlock(16, 16, 1)
        self.block2 = TensorFlowBlock(16, 32, 2)
        self.block3 = TensorFlowBlock(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.block3(self.block2(self.block1(x))).mean((2, 3)))
