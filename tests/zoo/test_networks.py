"""Networks that others wrote, with random weights and small images: everything that a search does works."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
import torch._dynamo.testing
import torchvision
from torch import nn

from benchmarks.resnet import ResNet, ResNet8, ResNet20
from trainables.graph.network_file import NetworkFile
from trainables.models.importing import captured_network
from trainables.models.model import Model
from trainables.models.unit_state import own_model
from trainables.network_check import IMAGES, check_network, check_training, random_images
from trainables.train.batch_norm import reestimate_batch_norm_

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1800)]


def of_torchvision(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    """What makes a network of torchvision with ten classes."""
    return partial(getattr(torchvision.models, name), num_classes=10, **arguments)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{
        name: (of_torchvision(name), 64)
        for name in (
            *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5"),
            *("densenet121", "regnet_y_400mf", "squeezenet1_1", "mnasnet0_5", "convnext_tiny", "vgg11_bn"),
        )
    },
    "googlenet": (of_torchvision("googlenet", init_weights=False, aux_logits=True), 64),
    "vit_b_16": (of_torchvision("vit_b_16", image_size=32), 32),
    "resnet20_cifar": (ResNet20, 32),
    "resnet56_cifar": (partial(ResNet, 9), 32),
    "mlperf_tiny_resnet8": (ResNet8, 32),
}
"""What makes each network, and the side of its images."""


def captured(name: str) -> NetworkFile:
    """The network as its graph, with random weights."""
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    return captured_network(make(), (3, size, size))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_goes_all_the_way(name: str) -> None:
    results = list(check_network(captured(name)))
    print(*results, sep="\n")
    assert len(results) == 6
    assert not [result for result in results if not result.holds]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_step_lowers_the_loss(name: str) -> None:
    model, architecture = own_model(captured(name))
    images = random_images(architecture)
    reestimate_batch_norm_(model, images.batches(IMAGES))
    torch.compiler.reset()
    frames = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    compiled = cast(Model, torch.compile(model, backend=frames, dynamic=False))
    holds, seen = check_training(compiled, architecture, images)
    print(seen, frames.frame_count)
    assert holds, seen
    assert frames.frame_count == 2  # with gradients, and without: a whole graph each
