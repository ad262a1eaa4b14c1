from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from tests.trainables.factories import digits
from trainables.config import DATASETS, DataConfig
from trainables.data import class_names
from trainables.data.data_sets import load_data
from trainables.data.images import ImageSet
from trainables.data.sources import Source
from trainables.errors import ConfigError

KNOWN = {
    "CIFAR10": {0: "airplane", 3: "cat", 5: "dog", 9: "truck"},
    "CIFAR100": {0: "apple", 1: "aquarium_fish", 41: "lawn_mower", 47: "maple_tree", 58: "pickup_truck", 99: "worm"},
    "DIGITS": {0: "0", 9: "9"},
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_label_has_the_name_that_its_data_set_gives_it(name: str) -> None:
    names = getattr(class_names, name)
    assert {i: names[i] for i in KNOWN[name]} == KNOWN[name]
    assert len(set(names)) == len(names) == (100 if name == "CIFAR100" else 10)


def test_names_of_fashion_mnist_are_those_of_torchvision() -> None:
    assert list(class_names.FASHION_MNIST) == datasets.FashionMNIST.classes


def test_cifar_100_has_20_groups_of_5() -> None:
    assert set(Counter(class_names.CIFAR100_GROUPS).values()) == {5}
    assert len(set(class_names.CIFAR100_GROUPS)) == 20
    groups = dict(zip(class_names.CIFAR100, class_names.CIFAR100_GROUPS, strict=True))
    assert (groups["whale"], groups["pear"], groups["tank"]) == (
        "aquatic mammals",
        "fruit and vegetables",
        "vehicles 2",
    )


def test_cifar_10_has_animals_and_vehicles() -> None:
    groups = dict(zip(class_names.CIFAR10, class_names.CIFAR10_GROUPS, strict=True))
    assert {name for name, group in groups.items() if group == "vehicle"} == {"airplane", "automobile", "ship", "truck"}


def test_the_digits_know_their_names() -> None:
    assert digits().names == tuple("0123456789")
    assert digits().groups == ()


def loader(**words: Any) -> Callable[[DataConfig], Source]:
    def load(config: DataConfig) -> Source:
        part = ImageSet(np.zeros((40, 1, 8, 8), np.uint8), np.arange(40) % 3)
        return Source(part, part, 3, (0.5,), (0.5,), **words)

    return load


def test_a_data_set_of_ones_own_brings_names_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"names": ("a", "b", "c"), "groups": ("x", "x", "y")}
    monkeypatch.setitem(DATASETS._entries, "own", loader(**words))
    data = load_data(DataConfig(name="own", image_size=8))
    assert (data.names, data.groups) == (words["names"], words["groups"])
    monkeypatch.setitem(DATASETS._entries, "own", loader())
    nameless = load_data(DataConfig(name="own", image_size=8))
    assert (nameless.names, nameless.fingerprint) == ((), data.fingerprint)


@pytest.mark.parametrize("words", [{"names": ("a", "b")}, {"groups": ("x",) * 4}])
def test_too_few_or_too_many_names_are_refused(words: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._entries, "own", loader(**words))
    with pytest.raises(ConfigError, match=r"has 3 classes, but [24] names or groups"):
        load_data(DataConfig(name="own", image_size=8))
