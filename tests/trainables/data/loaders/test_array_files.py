from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainables.data.files import draw
from tests.trainables.factories import CPU
from trainables.config import DataConfig, Validation
from trainables.data.data_sets import load_data, load_test_images
from trainables.errors import ConfigError

IMAGES, LABELS = draw(60)
TRAIN, TEST = slice(0, 40), slice(40, 60)
FIRST = IMAGES.transpose(0, 3, 1, 2)


def config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig.model_validate({"name": "arrays", "root": str(root), "image_size": 8, **changes})


def pairs(images: str, labels: str, form: str = "{split}_{word}") -> dict[str, np.ndarray]:
    """Arrays of two splits by their names."""
    return {
        form.format(split=split, word=word): values[part]
        for word, values in ((images, IMAGES), (labels, LABELS))
        for split, part in (("train", TRAIN), ("test", TEST))
    }


def write_npz(root: Path) -> Path:
    np.savez(root / "all.npz", **pairs("images", "labels"))
    return root / "all.npz"


def write_keras(root: Path) -> Path:
    np.savez(root / "all.npz", **pairs("x", "y", "{word}_{split}"))
    return root


def write_npz_of_each_split(root: Path) -> Path:
    for name, part in (("train", TRAIN), ("test", TEST)):
        np.savez_compressed(root / f"{name}.npz", images=FIRST[part], labels=LABELS[part, None])
    return root


def write_npy(root: Path) -> Path:
    for name, values in pairs("images", "labels").items():
        np.save(root / f"{name}.npy", values)
    return root


@pytest.mark.parametrize("write", [write_npz, write_keras, write_npz_of_each_split, write_npy])
def test_splits_are_found_by_the_usual_names(write: Any, tmp_path: Path) -> None:
    root = write(tmp_path)
    data, test = load_data(config(root)), load_test_images(config(root), CPU.torch)
    assert (len(data.train), len(data.val), data.classes, data.names) == (36, 4, 3, ("0", "1", "2"))
    assert np.array_equal(test.pixels, FIRST[TEST])
    assert test.labels.tolist() == LABELS[TEST].tolist()
    found = sorted(image.tobytes() for part in (data.train, data.val) for image in part.images)
    assert found == sorted(image.tobytes() for image in FIRST[TRAIN])


def test_arrays_without_splits_give_a_share_of_them_to_the_test(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES[..., 0], labels=np.array(["ant", "bee", "cat"])[LABELS])
    data = load_data(config(tmp_path))
    assert (len(data.train) + len(data.val), data.channels, data.names) == (48, 1, ("ant", "bee", "cat"))
    assert len(load_test_images(config(tmp_path), CPU.torch)) == 12


def test_arrays_of_validation_images_validate(tmp_path: Path) -> None:
    parts = {"train": slice(0, 30), "val": slice(30, 45), "test": slice(45, 60)}
    arrays = {f"{split}_images": IMAGES[part] for split, part in parts.items()}
    arrays |= {f"{split}_labels": LABELS[part] for split, part in parts.items()}
    np.savez(tmp_path / "medical.npz", **arrays)
    data = load_data(config(tmp_path, validation=Validation(source="val")))
    assert np.array_equal(data.val.images, FIRST[parts["val"]])


def test_sixteen_bits_and_other_sizes_are_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES.astype(np.uint16) * 257, labels=LABELS)
    np.savez(tmp_path / "b.npz", images=IMAGES, labels=LABELS)
    a, b = (load_data(config(tmp_path / name)) for name in ("a.npz", "b.npz"))
    assert a.fingerprint == b.fingerprint
    assert load_data(config(tmp_path / "a.npz", image_size=20)).train.images.shape[1:] == (3, 20, 20)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"pictures": IMAGES}, "must hold arrays train_images and train_labels, or images and labels; has pictures"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"train images are float64, .* \(images \* 255\).round"),
        ({"images": IMAGES[:3], "labels": LABELS}, "train images are 3, but their labels 60"),
        ({"images": np.zeros((60, 4, 8, 8), np.uint8), "labels": LABELS}, r"have the shape \(60, 4, 8, 8\), but must"),
        ({"images": IMAGES, "labels": LABELS * 0.5}, "as targets of a regression are"),
        ({"images": IMAGES, "labels": np.eye(3)[LABELS]}, "3 values for each image"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"have the shape \(0, .*, which holds none"),
        ({"images": IMAGES[:, :0], "labels": LABELS}, r"have the shape \(60, 0, .*, which holds none"),
        ({"images": np.uint8(3), "labels": LABELS}, r"have the shape \(\), but must"),
        ({"images": IMAGES, "labels": np.int64(3)}, "labels are a single value, but one class per image"),
        ({"images": IMAGES, "labels": np.array([b"\xff", b"a", b"b"])[LABELS]}, "bytes that are no text in UTF-8"),
        ({"images": np.array([{}], object), "labels": LABELS}, "cannot read .*npz: Object arrays cannot be loaded"),
    ],
)
def test_what_is_no_data_set_is_refused(arrays: dict[str, np.ndarray], expected: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_data(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    content = write_npz(tmp_path).read_bytes()
    for damaged in (content[:100], content[:-40], b"", b"no array", content[:3000] + b"x" * 500 + content[3500:]):
        (tmp_path / "all.npz").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"cannot read .*all\.npz"):
            load_data(config(tmp_path))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(ConfigError, match="cannot read"):
        load_data(config(tmp_path))
