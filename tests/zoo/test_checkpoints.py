"""Published checkpoints have their published accuracy before anything is compressed."""

import os
from pathlib import Path

import pytest
import torch

from trainables.config import DataConfig
from trainables.data.data_sets import load_test_images
from trainables.models.importing import capture_network
from trainables.models.unit_state import own_model
from trainables.train.loop import evaluate

pytestmark = pytest.mark.zoo

PLACE, IMAGES = (os.environ.get(name, "") for name in ("TUNE_APP_CHECKPOINTS", "TUNE_APP_CIFAR10"))
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Constants of networks that take pixels from 0 to 255 as they are."""


@pytest.mark.skipif(not PLACE or not IMAGES, reason="TUNE_APP_CHECKPOINTS and TUNE_APP_CIFAR10 name no folders")
@pytest.mark.parametrize(
    ("file", "network", "blocks", "constants", "parameters", "accuracy"),
    [
        ("mlperf_tiny_resnet8.safetensors", "ResNet8", None, PIXELS, 78_186, 0.8719),
        ("resnet20-12fca82f.th", "ResNet", 3, IMAGENET, 269_722, 0.9173),
        ("resnet56-4bfd9763.th", "ResNet", 9, IMAGENET, 853_018, 0.9339),
    ],
)
def test_a_checkpoint_has_its_published_accuracy(
    file: str,
    network: str,
    blocks: int | None,
    constants: dict[str, tuple[float, ...]],
    parameters: int,
    accuracy: float,
) -> None:
    found = capture_network(
        f"tests.trainables.graph.networks:{network}",
        {} if blocks is None else {"blocks": blocks},
        (3, 32, 32),
        checkpoint=Path(PLACE) / file,
    )
    model, _ = own_model(found)
    assert sum(p.numel() for p in model.parameters()) == parameters
    images = load_test_images(
        DataConfig.model_validate({"name": "cifar10", "root": IMAGES, **constants}), torch.device("cpu")
    )
    assert evaluate(model, images) == pytest.approx(accuracy, abs=0.0005)
