from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from tests.trainables.data.files import NAMES, draw, encoded, write_folder
from tests.trainables.data.test_data_sets import write_cifar
from tests.trainables.factories import CPU
from trainables.config import Columns, DataConfig, Validation
from trainables.data.class_names import CIFAR10
from trainables.data.data_sets import load_data, load_test_images
from trainables.errors import ConfigError

IMAGES, LABELS = draw(60)
FIRST = IMAGES.transpose(0, 3, 1, 2)


def config(root: Path, **changes: object) -> DataConfig:
    return DataConfig.model_validate({"name": "image_folder", "root": str(root), "image_size": 8, **changes})


def rows(images: Iterable[Any]) -> list[bytes]:
    return sorted(np.asarray(image).tobytes() for image in images)


def test_folders_are_classes_and_a_share_of_each_is_the_test_set(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    data, test = load_data(config(tmp_path)), load_test_images(config(tmp_path), CPU.torch)
    assert (data.classes, data.names, data.channels) == (3, NAMES, 3)
    assert (len(data.train), len(data.val), len(test)) == (43, 5, 12)
    assert test.labels.bincount().tolist() == [4, 4, 4]
    together = np.concatenate([data.train.images, data.val.images, np.asarray(test.pixels)])
    assert rows(together) == rows(FIRST)
    more = load_data(config(tmp_path, test_fraction=0.5))
    assert len(more.train) + len(more.val) == 30


@pytest.mark.parametrize("test_name", ["test", "Testing", "val", "valid"])
def test_folders_are_splits(test_name: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "train", IMAGES[:40], LABELS[:40])
    write_folder(tmp_path / test_name, IMAGES[40:], LABELS[40:])
    data, test = load_data(config(tmp_path)), load_test_images(config(tmp_path), CPU.torch)
    assert rows(np.concatenate([data.train.images, data.val.images])) == rows(FIRST[:40])
    assert np.array_equal(test.pixels, FIRST[40:])
    assert test.labels.tolist() == LABELS[40:].tolist()


def test_a_folder_of_validation_images_validates_when_it_is_asked_to(tmp_path: Path) -> None:
    for split, part in {"train": slice(0, 30), "val": slice(30, 45), "test": slice(45, 60)}.items():
        write_folder(tmp_path / split, IMAGES[part], LABELS[part])
    own = config(tmp_path, validation=Validation(source="val"))
    data, test = load_data(own), load_test_images(own, CPU.torch)
    assert np.array_equal(data.train.images, FIRST[:30])
    assert np.array_equal(data.val.images, FIRST[30:45])
    assert np.array_equal(test.pixels, FIRST[45:])
    assert len(load_data(config(tmp_path)).train) == 27  # its own validation images are in no split then


def test_validation_images_that_are_the_test_set_cannot_be_both(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folder(tmp_path / split, IMAGES, LABELS)
    with pytest.raises(ConfigError, match="no validation images of its own beside a test set"):
        load_data(config(tmp_path, validation=Validation(source="val")))


def test_the_order_of_files_is_that_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", IMAGES, LABELS)
    for number in np.random.default_rng(1).permutation(60):
        write_folder(tmp_path / "b", IMAGES[:0], LABELS[:0])
        folder = tmp_path / "b" / NAMES[LABELS[number]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}.png").write_bytes(encoded(IMAGES[number]))
    assert load_data(config(tmp_path / "a")).fingerprint == load_data(config(tmp_path / "b")).fingerprint


def test_odd_names_and_other_files_change_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", IMAGES, LABELS)
    before = load_data(config(tmp_path / "a")).fingerprint
    (tmp_path / "a/.hidden").mkdir()
    (tmp_path / "a/ant/.DS_Store").write_bytes(b"x")
    (tmp_path / "a/ant/._00000.png").write_bytes(b"x")
    (tmp_path / "a/ant/.cache").mkdir()
    (tmp_path / "a/ant/.cache/1.png").write_bytes(b"x")
    (tmp_path / "a/ant/labels.csv").write_text("x")
    (tmp_path / "a/README.md").write_text("x")
    (tmp_path / "a/ant/circle").symlink_to(tmp_path / "a")
    assert load_data(config(tmp_path / "a")).fingerprint == before


def test_files_below_a_class_and_links_are_of_the_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", IMAGES, LABELS)
    (tmp_path / "root/ant/deep er").mkdir(parents=True)
    for name in ("bee", "cat"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere" / name)
    for number, file in enumerate(sorted((tmp_path / "elsewhere/ant").iterdir())):
        (tmp_path / "root/ant/deep er" / f"ü\udcff{number:03d}.PNG").symlink_to(file)
    assert load_data(config(tmp_path / "root")).fingerprint == load_data(config(tmp_path / "elsewhere")).fingerprint


def test_images_of_all_kinds_come_together(tmp_path: Path) -> None:
    """Mixed sizes, gray ones, transparent ones, and turned ones, as JPEG, PNG and WebP."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        for number in range(6):
            height, width = rng.integers(8, 40, 2)
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 1 + number
            image = image.convert(["RGB", "L", "RGBA"][number % 3]) if label else image
            kind = "png" if image.mode == "RGBA" else ["jpg", "png", "webp"][number % 3]
            image.save(tmp_path / name / f"{number}.{kind}", exif=exif)
    data = load_data(config(tmp_path, image_size=12))
    assert data.train.images.shape[1:] == data.val.images.shape[1:] == (3, 12, 12)
    assert data.train.images.std() > 20


def test_constants_are_those_of_the_images_that_may_train(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", IMAGES[:40], LABELS[:40])
    write_folder(tmp_path / "test", IMAGES[40:] // 4, LABELS[40:])
    data = load_data(config(tmp_path))
    values = IMAGES[:40] / 255
    assert data.mean == tuple(values.mean(axis=(0, 1, 2)).round(4).tolist())
    assert data.std == tuple(values.std(axis=(0, 1, 2)).round(4).tolist())
    other = load_data(config(tmp_path, split_seed=1, validation=Validation(source="test", fraction=0.5)))
    assert (other.mean, other.std) == (data.mean, data.std)
    assert load_data(config(tmp_path, mean=(0.5, 0.5, 0.5))).std == data.std


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "must hold a folder of images for each of at least two classes, but holds 0 folders"),
        ({"ant/1.png": 1}, "at least two classes, but holds 1 folders"),
        ({"ant/a.txt": 1, "bee/a.gif": 1}, "has no image files"),
        ({"train/ant/1.png": 1, "train/bee/1.png": 1}, "has a folder train, but none of the name test or val"),
        (
            {f"{split}/{name}/1.png": 1 for split in ("train", "training", "test") for name in ("ant", "bee")},
            "train and .*training are both of the split train: put their images into one",
        ),
        ({"ant/1.png": 1, "ant/2.png": 1, "bee/a.txt": 1}, "bee has no image files, so the class has none"),
        (
            {f"{split}/{name}/1.png": 1 for split in ("train", "test") for name in ("ant", "bee")}
            | {"test/cow/1.png": 1},
            "has the class 'cow', which the training images do not have",
        ),
    ],
)
def test_what_is_no_folder_of_classes_is_refused(content: dict[str, int], expected: str, tmp_path: Path) -> None:
    for name in content:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(IMAGES[0]))
    with pytest.raises(ConfigError, match=expected) as caught:
        load_data(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_cifar_written_out_as_a_folder_gives_the_same_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, classes=10)
    constants = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    published = DataConfig.model_validate({"name": "cifar10", "root": str(tmp_path), **constants})
    theirs = load_data(published)
    for split, train in (("train", True), ("test", False)):
        raw = datasets.CIFAR10(tmp_path, train=train)
        write_folder(tmp_path / "png" / split, raw.data, raw.targets, CIFAR10)
    written = config(tmp_path / "png", image_size=32, **constants)
    assert load_data(written).fingerprint == theirs.fingerprint  # so their splits are the same, too
    assert load_data(written).names == theirs.names
    a, b = (load_test_images(each, CPU.torch) for each in (written, published))
    assert torch.equal(a.pixels, b.pixels)
    assert torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("name", ["image_folder", "parquet", "arrays"])
def test_an_absent_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"data set '{name}': .*absent does not exist: set data.root"):
        load_data(config(tmp_path / "absent", name=name))


def test_columns_are_named_where_they_are_given_alone() -> None:
    assert "columns" not in DataConfig().model_dump(mode="json")
    assert "test_fraction" not in DataConfig().identity()
    changed = DataConfig(columns=Columns(label="fine"), test_fraction=0.3).identity()
    assert (changed["columns"], changed["test_fraction"]) == ({"image": None, "label": "fine"}, 0.3)


def test_files_that_cannot_be_decoded_are_refused_or_left_out(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_folder(tmp_path / split, IMAGES, LABELS)
    (tmp_path / "train/bee/00001.png").write_bytes(b"")
    (tmp_path / "test/bee/00004.png").write_bytes(b"")
    refused, skipped = config(tmp_path), config(tmp_path, on_error="skip")
    with pytest.raises(
        ConfigError, match=r"1 of 60 images cannot .*bee/00001\.png: .*: mend .* set data.on_error to skip"
    ):
        load_data(refused)
    data = load_data(skipped)
    assert len(data.train) + len(data.val) == 59
    assert len(load_test_images(skipped, CPU.torch)) == 59
    assert skipped.identity() == refused.identity()
    (tmp_path / "train/bee/00001.png").unlink()
    assert load_data(refused).fingerprint == data.fingerprint
    with pytest.raises(ConfigError, match=r"bee/00004\.png"):
        load_test_images(refused, CPU.torch)
    for path in (tmp_path / "train/bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match="class 'bee' has no training image that can be decoded, but a class must"):
        load_data(skipped)


def test_a_class_with_one_image_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    write_folder(tmp_path, IMAGES[:1], LABELS[:1], ("dog",))
    with pytest.raises(
        ConfigError, match="61 images cannot hold each of 4 classes, of which the smallest has 1"
    ) as caught:
        load_data(config(tmp_path))
    assert "give that class more images" in str(caught.value)


def test_a_rehearsal_decodes_its_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    decoded: list[object] = []
    monkeypatch.setattr(
        "trainables.data.decoding.encoded.pixels", lambda file, channels: decoded.append(file) or FIRST[0]
    )
    load_data(config(tmp_path, images=20))
    assert len(decoded) == 20


@pytest.mark.parametrize("name", ["image_folder", "arrays"])
def test_the_center_of_each_image_is_seen_alone(name: str, tmp_path: Path) -> None:
    framed = np.pad(IMAGES, ((0, 0), (16, 16), (16, 16), (0, 0)))
    for split, part in {"train": slice(0, 40), "test": slice(40, 60)}.items():
        write_folder(tmp_path / split, framed[part], LABELS[part])
        np.savez(tmp_path / f"{split}.npz", images=framed[part], labels=LABELS[part])
    plain = config(tmp_path, name=name, image_size=20, validation={"from": "test", "fraction": 0.5})
    half = plain.model_copy(update={"center_crop": 0.5})  # 20 of the 40 pixels that there are
    data, test = load_data(half), load_test_images(half, CPU.torch)
    inside = framed[:, 10:30, 10:30].transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.images, inside[:40])
    assert rows([*data.val.images, *test.pixels]) == rows(inside[40:])
    assert half.identity() == {**plain.identity(), "center_crop": 0.5}


def test_images_may_have_another_height_than_width(tmp_path: Path) -> None:
    images, labels = draw(60, size=(20, 30))
    write_folder(tmp_path, images, labels)
    data = load_data(config(tmp_path, image_size=[10, 24]))
    assert data.train.images.shape[1:] == data.val.images.shape[1:] == (3, 10, 24)
    assert load_data(config(tmp_path, image_size=[8, 8])).fingerprint == load_data(config(tmp_path)).fingerprint
