"""The adapter reads each form in which torchvision keeps its sets; small files of that form stand for the real ones."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from tests.trainables.factories import CPU
from trainables.config import DATASETS, DataConfig
from trainables.config.plugins import TORCHVISION
from trainables.data.data_sets import load_data, load_test_images
from trainables.data.loaders.torchvision_sets import SETS
from trainables.errors import ConfigError

RNG = np.random.default_rng(0)
COUNT = 20
GRAY = RNG.integers(0, 256, (2, COUNT, 28, 28), dtype=np.uint8)
COLOR = RNG.integers(0, 256, (2, COUNT, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 10


def write_idx(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    file.write_bytes(head + values.astype(np.uint8).tobytes())


def mnist(root: Path, patch: pytest.MonkeyPatch, *, kind: str = "MNIST") -> np.ndarray:
    for split, images in zip(("train", "t10k"), GRAY, strict=True):
        write_idx(root / kind / f"raw/{split}-images-idx3-ubyte", images)
        write_idx(root / kind / f"raw/{split}-labels-idx1-ubyte", LABELS)
    return GRAY[:, :, None]


def kmnist(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    return mnist(root, patch, kind="KMNIST")


def emnist(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    for split, images in zip(("train", "test"), GRAY, strict=True):
        write_idx(root / f"EMNIST/raw/emnist-balanced-{split}-images-idx3-ubyte", images)
        write_idx(root / f"EMNIST/raw/emnist-balanced-{split}-labels-idx1-ubyte", LABELS)
    return GRAY[:, :, None]


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def svhn(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    made = {}
    for split, images in zip(("train", "test"), COLOR, strict=True):
        url, name, _ = datasets.SVHN.split_list[split]
        savemat(root / name, {"X": images.transpose(1, 2, 3, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None]})
        made[split] = [url, name, md5(root / name)]
    patch.setattr(datasets.SVHN, "split_list", {**datasets.SVHN.split_list, **made})
    return COLOR.transpose(0, 1, 4, 2, 3)


def stl10(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    folder = root / "stl10_binary"
    folder.mkdir()
    images = RNG.integers(0, 256, (2, COUNT, 3, 96, 96), dtype=np.uint8)
    for split, values in zip(("train", "test"), images, strict=True):
        (folder / f"{split}_X.bin").write_bytes(values.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes((LABELS + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").touch()
    (folder / "class_names.txt").write_text("\n".join(f"c{n}" for n in range(10)))
    for name in ("train_list", "test_list"):
        patch.setattr(datasets.STL10, name, [[f, md5(folder / f)] for f, _ in getattr(datasets.STL10, name)])
    return images


def save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file, "PNG")


def gtsrb(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    base = root / "gtsrb"
    lines = ["Filename;ClassId"]
    for number, (train, test, label) in enumerate(zip(*COLOR, LABELS, strict=True)):
        save(base / f"GTSRB/Training/{label:05d}/{number:05d}.ppm", train)
        save(base / f"GTSRB/Final_Test/Images/{number:05d}.ppm", test)
        lines.append(f"{number:05d}.ppm;{label}")
    (base / "GT-final_test.csv").write_text("\n".join(lines))
    order = np.argsort(LABELS, kind="stable")
    return np.stack([COLOR[0][order], COLOR[1]]).transpose(0, 1, 4, 2, 3)


def flowers102(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    base = root / "flowers-102"
    for number, values in enumerate([*COLOR[0], *COLOR[0][:10], *COLOR[1]], start=1):
        save(base / f"jpg/image_{number:05d}.jpg", values)
    labels = np.concatenate([LABELS, LABELS[:10], LABELS]) + 1
    savemat(base / "imagelabels.mat", {"labels": labels})
    ids = {"trnid": np.arange(1, 21), "valid": np.arange(21, 31), "tstid": np.arange(31, 51)}
    savemat(base / "setid.mat", ids)
    known = datasets.Flowers102._file_dict
    made = {key: (known[key][0], md5(base / known[key][0])) for key in ("label", "setid")}
    patch.setattr(datasets.Flowers102, "_file_dict", {**known, **made})
    return COLOR.transpose(0, 1, 4, 2, 3)


def food101(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    for split, images in zip(("train", "test"), COLOR, strict=True):
        files: dict[str, list[str]] = {}
        for number, (values, label) in enumerate(zip(images, LABELS, strict=True)):
            name = f"food{label}/{split}{number:03d}"
            files.setdefault(f"food{label}", []).append(name)
            save(root / f"food-101/images/{name}.jpg", values)
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / f"food-101/meta/{split}.json").write_text(json.dumps(files))
    return COLOR[:, np.argsort(LABELS, kind="stable")].transpose(0, 1, 4, 2, 3)


WRITERS: dict[str, Callable[[Path, pytest.MonkeyPatch], np.ndarray]] = {
    "mnist": mnist,
    "kmnist": kmnist,
    "emnist": emnist,
    "svhn": svhn,
    "stl10": stl10,
    "gtsrb": gtsrb,
    "flowers102": flowers102,
    "food101": food101,
}


def rows(images: Any) -> list[bytes]:
    return sorted(np.asarray(image).tobytes() for image in images)


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_is_read_in_torchvisions_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = WRITERS[name](tmp_path, monkeypatch)
    config = DataConfig(name=name, root=str(tmp_path), image_size=train.shape[-1])
    data, found = load_data(config), load_test_images(config, CPU.torch)
    assert rows([*data.train.images, *data.val.images]) == rows(train)
    assert np.array_equal(found.pixels, test)
    assert sorted([*data.train.labels, *data.val.labels]) == sorted(LABELS)
    assert sorted(found.labels.tolist()) == sorted(LABELS)
    assert data.names == () or len(data.names) == data.classes >= 10


def test_a_set_without_a_test_set_gives_a_share_of_its_images(tmp_path: Path) -> None:
    for number, (values, label) in enumerate(zip(COLOR.reshape(-1, 32, 32, 3), [*LABELS, *LABELS], strict=True)):
        save(tmp_path / f"eurosat/2750/place{label}/{number}.jpg", values)
    config = DataConfig(name="eurosat", root=str(tmp_path), test_fraction=0.5)
    data, test = load_data(config), load_test_images(config, CPU.torch)
    assert data.names == tuple(f"place{label}" for label in range(10))
    together = [*data.train.images, *data.val.images, *test.pixels]
    assert rows(together) == rows(COLOR.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))
    assert len(test) == 20


def test_validation_images_of_a_set_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = flowers102(tmp_path, monkeypatch)
    config = DataConfig.model_validate({"name": "flowers102", "root": str(tmp_path), "validation": {"from": "val"}})
    data = load_data(config)
    assert np.array_equal(data.train.images, train)
    assert np.array_equal(data.val.images, train[:10])
    mnist(tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match="'mnist' has no validation images of its own"):
        load_data(config.model_copy(update={"name": "mnist"}))


def test_a_pickle_of_a_former_version_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(tmp_path, monkeypatch)
    (tmp_path / "MNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5)), tmp_path / "MNIST/processed" / name)
    monkeypatch.setattr(torch, "load", pytest.fail)
    assert len(load_test_images(DataConfig(name="mnist", root=str(tmp_path)), CPU.torch)) == COUNT


def test_a_truncated_image_of_a_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gtsrb(tmp_path, monkeypatch)
    file = tmp_path / "gtsrb/GTSRB/Training/00003/00003.ppm"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"1 of 20 images cannot be decoded \([^(]*00003.ppm: .*truncated"):
        load_data(DataConfig(name="gtsrb", root=str(tmp_path)))


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_set_that_is_not_there_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"data set '{name}' is not usable in") as caught:
        load_data(DataConfig(name=name, root=str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert "data.root" in str(caught.value)


def test_the_spec_knows_each_set_of_the_table() -> None:
    assert sorted(TORCHVISION) == sorted(SETS)
    assert set(SETS) < set(DATASETS.names())
    assert all(hasattr(datasets, published.kind) for published in SETS.values())
