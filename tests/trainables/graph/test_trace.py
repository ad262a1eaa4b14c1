"""trace: what it does not hold is left to `capture`, and never read as something else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.graph.capture import capture
from trainables.graph.trace import graph_of, trace
from trainables.models.importing import captured_network

IMAGE = (3, 8, 8)


class Net(nn.Module):
    """A convolution, something after it, the mean of each channel, and a linear layer."""

    def __init__(self, first: nn.Module, *then: nn.Module) -> None:
        super().__init__()
        self.first, self.then, self.fc = first, nn.Sequential(*then), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.mean(torch.relu(self.then(self.first(x))), dim=(2, 3)))


class MeanOfOneAxis(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.mean(torch.mean(self.first(x), dim=3), dim=2))


class OnlyInTraining(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + x.mean() if self.training else x)


class TwoInputs(Net):
    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        return super().forward(x)


class NamedImage(nn.Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.flat, self.fc = nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 10)


def conv(**more: object) -> nn.Module:
    return nn.Conv2d(3, 4, 3, **{"padding": 1, **more})


def hooked(layer: nn.Module) -> Net:
    layer.register_forward_hook(lambda _module, _args, out: 2 * out)
    return Net(layer)


def normed(**more: object) -> Net:
    return Net(conv(), nn.BatchNorm2d(4, **more))


BEYOND: dict[str, Callable[[], nn.Module]] = {
    "reflected edges": lambda: Net(conv(padding_mode="reflect")),
    "padding by name": lambda: Net(conv(padding="same")),
    "single pixels with gaps": lambda: Net(nn.Conv2d(3, 4, 1, 2)),
    "norm without affine part": lambda: normed(affine=False),
    "hook": lambda: hooked(conv()),
    "layer called twice": lambda: Net(conv(), *2 * [nn.Conv2d(4, 4, 1)]),
    "mean of one axis": lambda: MeanOfOneAxis(conv()),
    "two inputs": lambda: TwoInputs(conv()),
    "layer called image": NamedImage,
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_it_is_captured(name: str) -> None:
    torch.manual_seed(0)
    module = BEYOND[name]()
    assert trace(module, IMAGE) is None
    assert graph_of(module, IMAGE) == captured_network(module, IMAGE).graph


@pytest.mark.parametrize("make", [lambda: Net(conv()), normed, lambda: OnlyInTraining(conv())])
def test_what_it_reads_is_what_capture_finds(make: Callable[[], nn.Module]) -> None:
    module = make().train()
    assert trace(module, IMAGE) == capture(module, IMAGE).graph


def test_a_norm_without_statistics_is_not_read_as_one_with_them() -> None:
    assert trace(normed(track_running_stats=False), IMAGE) is None
