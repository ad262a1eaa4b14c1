"""The spec of a first search is one that can be run, and has what was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainables.graph.networks import ResNet8
from trainables.errors import ConfigError
from trainables.graph.network_file import network_bytes
from trainables.models.importing import captured_network
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec, parse_spec
from tune_app.start.first_search import FirstSearch, starter_spec

NETWORK = "tests.trainables.graph.networks:ResNet8"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six gray images of each of ten classes, of several sizes, the usual shorter side 70 pixels."""
    draw = np.random.default_rng(0)
    for i in range(60):
        place = tmp_path / "photos" / str(i % 10)
        place.mkdir(parents=True, exist_ok=True)
        sides = (70, 90) if i % 7 else (200, 300)
        Image.fromarray(draw.integers(0, 256, sides, dtype=np.uint8)).save(place / f"{i}.png")
    return tmp_path / "photos"


def started(network: str, data: object, **more: Any) -> ExperimentSpec:
    return parse_spec(starter_spec(FirstSearch(network, str(data), **more)), source="spec")


def test_a_network_of_torchvision_is_trained_on_a_folder_under_a_bound(photos: Path) -> None:
    spec = started("squeezenet1_1", photos, max_bytes=300_000)
    assert spec.name == "squeezenet1_1_photos"
    data, baseline = spec.base.data, spec.base.baseline
    assert (data.name, data.root, data.image_size, data.validation.source) == ("image_folder", str(photos), 64, "train")
    assert data.mean == (0.485, 0.456, 0.406)  # three channels, though the images are gray
    assert (baseline.kind, baseline.network) == ("train", "torchvision.models:squeezenet1_1")
    assert baseline.arguments == {"num_classes": 10}
    assert spec.base.quantize.auto_bits.budget_bytes == 294_000
    assert spec.space.root["budget_bytes"].values == (294_000,)
    assert spec.budget.trials == spec.space.size == len(spec.space.root["prune_frac"].values) > 1


@pytest.mark.parametrize(("side", "padding"), [(16, 2), (128, 16), (136, 16), (224, 16)])
def test_images_of_any_size_are_moved_by_an_eighth_at_most(side: int, padding: int, photos: Path) -> None:
    assert started(NETWORK, photos, image_size=side).base.data.augment.crop_padding == padding


def test_without_a_bound_the_whole_frontier_is_searched(photos: Path) -> None:
    spec = started(NETWORK, photos, image_size=16)
    assert spec.base.quantize.auto_bits is None
    assert "w_bits" in spec.space.root
    assert spec.fidelity is not None
    assert spec.budget.trials < spec.space.size


def test_a_trained_network_is_imported_and_judged_by_test_images(photos: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(ResNet8().state_dict(), weights)
    arrays = tmp_path / "data.npz"
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), np.arange(40) % 10
    np.savez(arrays, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    spec = started(NETWORK, arrays, checkpoint=str(weights), image_size=16, max_bytes=20_000)
    assert (spec.base.baseline.kind, spec.base.baseline.checkpoint) == ("import", str(weights))
    assert (spec.base.data.name, spec.base.data.validation.source) == ("arrays", "test")
    file = tmp_path / "eight.safetensors"
    file.write_bytes(network_bytes(captured_network(ResNet8(), (3, 16, 24))))
    spec = started(str(file), arrays, max_bytes=20_000, name="mine", storage=str(tmp_path / "runs"))
    assert (spec.base.baseline.kind, spec.base.baseline.network) == ("import", str(file))
    assert (spec.base.data.image_size, spec.name) == ((16, 24), "mine")


def test_a_network_of_other_classes_is_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 7 outputs, but .*photos 10 classes: name other arguments"):
        started("squeezenet1_1", photos, arguments={"num_classes": 7})


def test_a_spec_with_awkward_names_can_be_read(tmp_path: Path, photos: Path) -> None:
    place = tmp_path / "my: photos #1 {é}"
    photos.rename(place)
    text = starter_spec(FirstSearch("squeezenet1_1", str(place), max_bytes=300_000, storage=str(tmp_path)))
    (tmp_path / "spec.yaml").write_text(text, "utf-8")
    spec = load_spec(tmp_path / "spec.yaml")
    assert (spec.base.data.root, spec.name) == (str(place), "squeezenet1_1_my_photos_1")


@pytest.mark.parametrize("name", ["a\nb # 1", "a\x1bb", "a\u2028b", "a\x7fb", "a\rb", "a\uffffb"])
def test_names_that_no_comment_can_hold_can_be_read(name: str, tmp_path: Path, photos: Path) -> None:
    place, file = photos.rename(tmp_path / name), tmp_path / f"{name}.safetensors"
    file.write_bytes(network_bytes(captured_network(ResNet8(), (3, 16, 16))))
    (tmp_path / "spec.yaml").write_text(starter_spec(FirstSearch(str(file), str(place), storage=str(place))), "utf-8")
    spec = load_spec(tmp_path / "spec.yaml")
    assert (spec.base.data.root, spec.base.baseline.network, spec.storage) == (str(place), str(file), str(place))


@pytest.mark.parametrize(
    ("max_bytes", "least", "most"), [(10_000_000, 0.0, 0.0), (60_000, 0.0, 0.2), (20_000, 0.0, 0.75), (500, 0.8, 1.0)]
)
def test_the_fewer_bytes_the_more_channels_go(max_bytes: int, least: float, most: float, photos: Path) -> None:
    spec = started(NETWORK, photos, image_size=16, max_bytes=max_bytes)
    values = spec.space.root["prune_frac"].values
    assert least <= min(values) <= max(values) <= most


@pytest.mark.parametrize(
    ("network", "data", "said"),
    [
        ("squeezenet1_2", None, "neither a file nor a network of torchvision; did you mean 'squeezenet1_"),
        ("squeezenet1_1", "nowhere", "'nowhere' is neither a folder nor the name of a data set; give the path"),
        ("squeezenet1_1", "cifr10", "did you mean 'cifar10'"),
        ("squeezenet1_1", "x" * 300, "xxx' is neither a folder nor the name of a data set"),
        ("x" * 300, None, "xxx' is neither a file nor a network of torchvision"),
        ("nowhere:net", None, "network nowhere:net is not there"),
        ("squeezenet1_1", __file__, "is no data set: give a folder of images"),
    ],
)
def test_what_is_not_there_is_refused(network: str, data: str | None, said: str, photos: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        started(network, data or photos)


def test_a_root_of_what_has_a_place_and_another_size_of_a_captured_network_are_refused(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"elsewhere is for the name of a data set, but .*photos is a place"):
        started(NETWORK, photos, root="elsewhere")
    file = tmp_path / "eight.safetensors"
    file.write_bytes(network_bytes(captured_network(ResNet8(), (3, 16, 16))))
    with pytest.raises(ConfigError, match="was captured on images of 16 x 16 pixels, but 32 are asked for"):
        started(str(file), photos, image_size=32)
    assert started(str(file), photos, image_size=16).base.data.image_size == 16
