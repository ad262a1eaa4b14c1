"""Networks as anyone writes them: none of these knows anything of this program."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.resnet import ResNet, ResNet8


class Padded(nn.Module):
    """A residual network with biases, uneven padding and shortcuts of 1x1 convolutions, as TensorFlow makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(16, 1e-3)
        self.conv2 = nn.Conv2d(16, 32, 3, 2)
        self.bn2 = nn.BatchNorm2d(32, 1e-3)
        self.conv3 = nn.Conv2d(32, 32, 3, 1, 1)
        self.shortcut = nn.Conv2d(16, 32, 1, 2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(F.pad(x, (0, 1, 0, 1)))))
        return self.fc(torch.relu(self.conv3(y) + self.shortcut(x)).mean((2, 3)))


class Squeezed(nn.Module):
    """Inverted residuals with squeeze-and-excitation, hard swish, dropout, and in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(inplace=True))
        self.expand = nn.Sequential(nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(nn.Conv2d(48, 48, 5, 1, 2, groups=48, bias=False), nn.BatchNorm2d(48), nn.SiLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 12, 1), nn.ReLU(), nn.Conv2d(12, 48, 1))
        self.project = nn.Sequential(nn.Conv2d(48, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        y = y * F.hardsigmoid(self.gate(y))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x + self.project(y), 1), 1))


class Shuffled(nn.Module):
    """Halves of channels, a shuffle, grouped convolutions and concatenation (ShuffleNet V2, ResNeXt)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.grouped = nn.Sequential(nn.Conv2d(24, 24, 3, 1, 1, groups=4), nn.BatchNorm2d(24), nn.ReLU())
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.stem(x).chunk(2, dim=1)
        x = torch.cat([one, self.branch(other)], dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(self.grouped(x).mean([2, 3]))


class Dense(nn.Module):
    """Norms that stand alone before their layers, and features that are concatenated (DenseNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(12), nn.BatchNorm2d(20)])
        self.layers = nn.ModuleList([nn.Conv2d(12, 8, 3, 1, 1, bias=False), nn.Conv2d(20, 8, 3, 1, 1, bias=False)])
        self.last = nn.BatchNorm2d(28)
        self.fc = nn.Linear(28, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        x = F.max_pool2d(F.relu(self.last(x)), 2)
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Attentive(nn.Module):
    """A small vision transformer: a class token, positions, layer norms, attention, an MLP."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))
        self.scale = nn.Parameter(torch.full((width,), 0.5))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        b, length, width = x.shape
        x = torch.cat([self.token.expand(b, -1, -1), x], dim=1) + self.positions
        qkv = self.qkv(self.norm1(x)).reshape(b, length + 1, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, length + 1, width)
        x = x + self.out(y)
        x = x + self.scale * self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Pyramid(nn.Module):
    """Maps of several sizes, joined by resizing; mirrored edges, windows of maxima behind -inf, pooled shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 0), nn.BatchNorm2d(12), nn.ReLU())
        self.glance = nn.Sequential(nn.Conv2d(3, 12, 1, 2, bias=False), nn.BatchNorm2d(12))
        self.down = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(12, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.local = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.back = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        glance = F.interpolate(self.glance(x), scale_factor=2, mode="nearest")
        x = self.first(F.pad(x, (1, 1, 1, 1), mode="reflect")) + glance
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, 1)
        y = self.down(x) + self.shortcut(x)
        z = self.local(y)
        y = F.interpolate(self.back(y + z * z), size=(16, 16), mode="bilinear")
        y = (
            F.interpolate(y[..., ::2, ::2], size=(16, 16), mode="bicubic", align_corners=True)
            + F.pad(y, (1, 1, 1, 1), mode="replicate")[..., 1:-1, 1:-1]
        )
        y = y.clone()
        y[:, :4] = 2 * x[:, :4]
        return self.fc((x + y).mean((2, 3)))


class Mixed(nn.Module):
    """Attention over channels by a convolution along one axis, norms that convolutions read, a norm made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.norm = nn.LayerNorm(16)
        self.mix = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.GELU(), nn.BatchNorm2d(16))
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.along(x.mean((2, 3)).unsqueeze(1))).transpose(1, 2).unsqueeze(-1)
        y = self.norm(x.flatten(2).transpose(1, 2))
        rows = torch.ones(x.shape[0], 4, 4).cumsum(1).unsqueeze(1)
        x = x + self.mix(y.transpose(1, 2).reshape(x.shape)) + rows / 4
        x = x * torch.rsqrt(x.var(1, keepdim=True) + 1e-5) * self.scale
        return self.fc(x.mean((2, 3)))


class Gated(nn.Module):
    """Scales that are reshaped between convolutions along one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.mixers = nn.ModuleList(nn.Conv1d(8, 8, 3, padding=1) for _ in range(3))
        self.alphas = nn.Parameter(torch.rand(3, 8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2)
        for mixer, alpha in zip(self.mixers, self.alphas, strict=True):
            x = x + alpha.view(8, 1) * mixer(x)
        return self.fc(x.mean(2))


class Shifted(nn.Module):
    """Maps that are shifted around their edges (Swin), means of windows that are not alike, attention to the past."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 3), nn.ReLU())
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.qkv = nn.Linear(16, 48)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).roll((-2, 1), (2, 3))
        x = F.adaptive_avg_pool2d(x + torch.roll(self.mix(x), 7, 3), (3, 4))
        q, k, v = self.qkv(F.adaptive_avg_pool2d(x, (7, 6)).flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        return self.fc(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, -1])


class Strided(nn.Module):
    """Every second channel of a map is read by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 1, 1)
        self.even, self.odd = nn.Conv2d(6, 8, 1), nn.Conv2d(6, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.wide(torch.relu(self.stem(x))))
        return self.fc((self.even(y[:, ::2]) + self.odd(y[:, 1::2])).mean((2, 3)))


class Named(nn.Module):
    """Parts that are called as parts of our units are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Module()
        self.layer.stem = nn.Conv2d(3, 8, 4, 4)
        self.layer.bn = nn.Sequential(nn.GroupNorm(2, 8), nn.BatchNorm2d(8))
        self.layer.quantizer = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer.quantizer(self.layer.bn(self.layer.stem(x)))
        return self.fc(self.bn(x.mean((2, 3))))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet": (ResNet, 16),
    "padded": (Padded, 16),
    "resnet8": (ResNet8, 16),
    "squeezed": (Squeezed, 16),
    "shuffled": (Shuffled, 16),
    "dense": (Dense, 16),
    "attentive": (Attentive, 16),
    "pyramid": (Pyramid, 16),
    "mixed": (Mixed, 16),
    "gated": (Gated, 16),
    "shifted": (Shifted, 16),
    "strided": (Strided, 16),
    "named": (Named, 16),
}
"""Each network by name, and the size of its images."""


class Wrapped(nn.Module):
    """A network that returns its logits in a container of this kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(3, 10)

    def forward(self, x: Tensor) -> tuple[Tensor] | list[Tensor] | dict[str, Tensor]:
        y: Tensor = self.fc(x.mean((2, 3)))
        return {"tuple": (y,), "list": [y], "dict": {"logits": y}}[self.kind]


class OneLogit(nn.Module):
    """A network that says yes or no by one number."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class Relative(nn.Module):
    """A network that compares images of a batch with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3))
        return self.fc(y + 0.01 * y.mean(0, keepdim=True))


class TwoOutputs(nn.Module):
    """A network with a second output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x


class Branching(nn.Module):
    """A network that does different things with different images."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Sorting(nn.Module):
    """A network with an operator that is on no list."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x.mean((2, 3)), dim=1).values


class Demanding(nn.Module):
    """A network for images of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Counting(nn.Module):
    """A network that asks for the number of images, which an export then fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(len(x), -1))


class Tied(nn.Module):
    """A layer whose weight is read by itself as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        return self.fc(x) + (self.fc.weight * x.unsqueeze(1)).sum(2)


class Shared(nn.Module):
    """A network that uses a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x)).mean((2, 3))


def number() -> int:
    return 3
