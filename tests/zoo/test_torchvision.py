"""torchvision's classifiers as they are, with random weights and small images: everything that a search does works."""

from typing import Any

import pytest
import torch
import torchvision

from trainables.models.importing import captured_network
from trainables.network_check import check_network

pytestmark = pytest.mark.zoo

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet50": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "efficientnet_b0": {},
    "shufflenet_v2_x0_5": {},
    "densenet121": {},
    "regnet_y_400mf": {},
    "squeezenet1_1": {},
    "googlenet": {"init_weights": False, "aux_logits": True},
    "mnasnet0_5": {},
    "convnext_tiny": {},
    "vgg11_bn": {},
    "vit_b_16": {"image_size": 32},
}
"""The networks, and what they are made with beside ten classes."""


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torchvision_goes_all_the_way(name: str) -> None:
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(num_classes=10, **NETWORKS[name])
    size = NETWORKS[name].get("image_size", 64)
    results = list(check_network(captured_network(module, (3, size, size))))
    print(*results, sep="\n")
    assert len(results) == 6
    assert not [result for result in results if not result.holds]
