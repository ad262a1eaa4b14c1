"""Weights of networks whose authors named them otherwise."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.trainables.factories import few_digits, make_architecture, make_context, make_model
from trainables.config import Architecture, BaselineImport, ModelConfig, file_sha256
from trainables.errors import ConfigError
from trainables.models.checkpoint_file import fit, read_fitted
from trainables.models.model import Model, build
from trainables.network_file import read_network
from trainables.stages.stage import run_stage

WHOLE_NETWORKS = True


def cifar(name: str, **model: object) -> Architecture:
    config = ModelConfig.model_validate({"name": name, **model})
    return Architecture(model=config, classes=10, channels=3, image_size=32)


def torchvision_mobilenet() -> nn.Module:
    """With 10 classes; the CIFAR variant keeps stride 1 in the stem and the 24-channel stage."""
    model = torchvision.models.mobilenet_v2(num_classes=10)
    model.features[0][0].stride = (1, 1)
    model.features[2].conv[1][0].stride = (1, 1)
    return model


def torchvision_vgg() -> nn.Module:
    """With the usual head for 32x32 images: one linear layer after the last maximum."""
    model = torchvision.models.vgg16_bn(num_classes=10)
    model.avgpool = nn.Identity()
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(512, 10))
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {"mobilenet_v2": torchvision_mobilenet, "vgg16": torchvision_vgg}


def made(name: str) -> nn.Module:
    """With random weights, and with statistics of batch norm that keep values near 1."""
    torch.manual_seed(3)
    return settled(NETWORKS[name]())


def settled(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
    with torch.no_grad():
        for _ in range(5):
            model.train()(torch.randn(16, 3, 32, 32))
    return model.eval()


def loaded(path: Path, shape: Architecture) -> Model:
    model = build(shape)
    model.load_state_dict(model.state_dict() | read_fitted(path, model.state_dict()).state)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("parallel", [False, True])
def test_a_network_of_torchvision_gives_the_same_logits(name: str, parallel: bool, tmp_path: Path) -> None:
    theirs = made(name)
    state = nn.DataParallel(theirs).state_dict() if parallel else {"state_dict": theirs.state_dict()}
    torch.save(state, tmp_path / "theirs.pt")
    ours = loaded(tmp_path / "theirs.pt", cifar(name))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        logits = theirs(images)
        assert logits.std() > 0.1
        assert torch.allclose(ours(images), logits, atol=1e-4)
    assert read_network(tmp_path / "theirs.pt", cifar(name)).size_bytes == (tmp_path / "theirs.pt").stat().st_size


def test_the_strides_of_a_network_are_not_in_its_file(tmp_path: Path) -> None:
    """Why the accuracy after the import is the check: the weights fit although the network is another one."""
    theirs = settled(torchvision.models.mobilenet_v2(num_classes=10))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    ours, images = loaded(tmp_path / "theirs.pt", cifar("mobilenet_v2")), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(ours(images), theirs(images), atol=0.1)


def test_the_summary_says_what_was_renamed() -> None:
    theirs = made("mobilenet_v2").state_dict()
    found = fit(theirs, build(cifar("mobilenet_v2")).state_dict(), source="x")
    assert found.summary == (
        "262 tensors matched by order and shape, since the file has other names: features.0.0.weight is "
        "stem.layer.weight, ..., classifier.1.bias is classifier.layer.bias"
    )
    own = build(cifar("mobilenet_v2")).state_dict()
    assert fit(own, own, source="x").summary == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: torchvision.models.vgg16(num_classes=10), "tensor 3 is features.2.weight (64, 64, 3, 3) there and "),
        (
            lambda: torchvision.models.vgg16_bn(num_classes=10),
            "tensor 79 is classifier.0.weight (4096, 25088) there and classifier.layer.weight (10, 512) in the model",
        ),
        (
            lambda: nn.Sequential(torchvision_vgg(), nn.Linear(10, 10)),
            "tensor 81 is 1.weight (10, 10) there and nothing",
        ),
        (lambda: torchvision_vgg().features, "tensor 79 is nothing there and classifier.layer.weight (10, 512) in"),
        (lambda: torchvision.models.resnet18(num_classes=10), "tensor 1 is conv1.weight (64, 3, 7, 7) there and"),
    ],
)
def test_another_network_is_refused_with_its_first_difference(change: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        fit(change().state_dict(), build(cifar("vgg16")).state_dict(), source="file.pt")
    message = str(caught.value)
    assert message.startswith("file.pt is another architecture: ")
    assert message.endswith("compare base.baseline.model and the data set.")
    assert "\n" not in message


def test_equal_shapes_of_other_kinds_are_refused() -> None:
    """A shift of batch norm is no mean, although both have the same shape."""
    theirs = made("mobilenet_v2").state_dict()
    swapped = {n.replace("0.1.bias", "0.1.beta"): t for n, t in theirs.items()}
    with pytest.raises(ConfigError, match=r"tensor 3 is features\.0\.1\.beta"):
        fit(swapped, build(cifar("mobilenet_v2")).state_dict(), source="x")


def test_a_value_that_is_not_finite_is_found_under_its_own_name() -> None:
    theirs = made("vgg16").state_dict()
    theirs["features.3.weight"][0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"x: features\.3\.weight holds NaN"):
        fit(theirs, build(cifar("vgg16")).state_dict(), source="x")


def test_order_is_not_read_from_a_file_that_has_none(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    state = made("mobilenet_v2").state_dict()
    save_file(state, path)
    with pytest.raises(ConfigError, match="safetensors does not keep the order of layers: write it with torch"):
        read_fitted(path, build(cifar("mobilenet_v2")).state_dict())


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As another author would have called them."""
    return {f"net.{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(state.items())}


def test_a_baseline_with_other_names_is_the_same_baseline(tmp_path: Path) -> None:
    state = make_model(seed=4).state_dict()
    results = []
    for name, tensors in (("own.pt", state), ("other.pt", renamed(state))):
        torch.save(tensors, tmp_path / name)
        config = BaselineImport(
            kind="import",
            model=make_architecture().model,
            checkpoint=str(tmp_path / name),
            sha256=file_sha256(tmp_path / name),
        )
        results.append(run_stage(config, make_context(few_digits())))
    own, other = results
    assert own.metrics == other.metrics
    assert all(torch.equal(own.state[n], other.state[n]) for n in own.state if "num_batches" not in n)
