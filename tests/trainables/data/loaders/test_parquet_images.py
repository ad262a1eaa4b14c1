from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainables.data.files import NAMES, draw, encoded, write_parquet
from tests.trainables.factories import CPU
from trainables.config import DataConfig
from trainables.data.data_sets import load_data, load_test_images
from trainables.errors import ConfigError

IMAGES, LABELS = draw(60)
FIRST = IMAGES.transpose(0, 3, 1, 2)


def config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig.model_validate({"name": "parquet", "root": str(root), "image_size": 8, **changes})


def rows(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


@pytest.mark.parametrize("folder", ["", "data/", "{split}/"])
def test_the_form_in_which_sets_are_shared_is_read(folder: str, tmp_path: Path) -> None:
    for split, part, number in (("train", slice(0, 20), 0), ("train", slice(20, 40), 1), ("test", slice(40, 60), 0)):
        name = "part" if "split" in folder else split
        file = tmp_path / folder.format(split=split) / f"{name}-0000{number}-of-00002.parquet"
        write_parquet(file, IMAGES[part], LABELS[part])
    data, test = load_data(config(tmp_path)), load_test_images(config(tmp_path), CPU.torch)
    assert (len(data.train), len(data.val), data.names) == (36, 4, NAMES)
    assert rows(np.concatenate([data.train.images, data.val.images])) == rows(FIRST[:40])
    assert np.array_equal(test.pixels, FIRST[40:])
    label = dict(zip((image.tobytes() for image in FIRST), LABELS, strict=True))
    for part in (data.train, data.val):
        assert [label[image.tobytes()] for image in part.images] == part.labels.tolist()


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_one_file_gives_a_share_to_the_test(struct: bool, text: bool, tmp_path: Path) -> None:
    labels = np.array(NAMES)[LABELS] if text else LABELS
    write_parquet(tmp_path / "all.parquet", IMAGES, labels, named=False, struct=struct)
    data = load_data(config(tmp_path / "all.parquet"))
    assert (len(data.train) + len(data.val), data.names) == (48, NAMES if text else ("0", "1", "2"))
    assert len(load_test_images(config(tmp_path), CPU.torch)) == 12


def test_a_split_of_validation_images_is_the_test_set_unless_there_is_one(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES[:40], LABELS[:40])
    write_parquet(tmp_path / "validation-00000-of-00001.parquet", IMAGES[40:50], LABELS[40:50])
    assert np.array_equal(load_test_images(config(tmp_path), CPU.torch).pixels, FIRST[40:50])
    write_parquet(tmp_path / "test.parquet", IMAGES[50:], LABELS[50:])
    assert np.array_equal(load_test_images(config(tmp_path), CPU.torch).pixels, FIRST[50:])
    data = load_data(config(tmp_path, validation={"from": "val"}))
    assert np.array_equal(data.val.images, FIRST[40:50])


def test_columns_are_chosen_by_the_spec(tmp_path: Path) -> None:
    content = [{"bytes": encoded(image), "path": None} for image in IMAGES]
    table = pa.table({"img": content, "coarse": LABELS % 2, "fine": LABELS, "thumb": content})
    pq.write_table(table, tmp_path / "train.parquet")
    data = load_data(config(tmp_path, columns={"image": "img", "label": "fine"}))
    assert data.classes == 3
    for columns, expected in (
        ({}, "has 2 columns that may be the image: set data.columns.image to one of img, coarse, fine, thumb"),
        ({"image": "img"}, "has 2 columns that may be the label: set data.columns.label"),
        ({"image": "pic"}, "has no column 'pic': set data.columns.image"),
        ({"image": "img", "label": "thumb"}, "'thumb' holds images, as maps of classes are, but one class per image"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load_data(config(tmp_path, columns=columns))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[0, 1]] * 60, "'label' holds lists of labels, but one class per image"),
        ([0.5] * 60, "as targets of a regression are"),
        ([None, *[1] * 59], "1 labels of 'label' are missing"),
    ],
)
def test_what_is_no_class_is_refused(labels: list[Any], expected: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES, labels, named=False)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_data(config(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"label": LABELS.astype(np.int16)}, ""),
        (
            {"label": [f"kind {label}" for label in LABELS]},
            "column 'label' holds string, but int64 in .*parquet",
        ),
        ({"label": [0.5] * 60}, r"b\.parquet: column 'label' holds double, but int64"),
        ({"other": LABELS}, r"b\.parquet has no column 'label', which .*a\.parquet has"),
        ({"image": LABELS, "label": LABELS}, r"b\.parquet: column 'image' holds no images, as it does in .*a\.parquet"),
    ],
    ids=["shorter integers", "text", "fractions", "no labels", "no images"],
)
def test_the_files_of_a_split_have_the_same_columns(second: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    content = [{"bytes": encoded(image), "path": None} for image in IMAGES]
    pq.write_table(pa.table({"image": content, "label": LABELS}), tmp_path / "train/a.parquet")
    pq.write_table(pa.table({"image": content, **second}), tmp_path / "train/b.parquet")
    if not expected:
        assert len(load_data(config(tmp_path, test_fraction=0.5)).train) > 40
        return
    with pytest.raises(ConfigError, match=expected):
        load_data(config(tmp_path))


def test_damaged_files_and_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parquet files"):
        load_data(config(tmp_path))
    file = write_parquet(tmp_path / "train.parquet", IMAGES, LABELS)
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(ConfigError, match=r"cannot read .*train\.parquet"):
        load_data(config(tmp_path))
    images = [{"bytes": encoded(image), "path": None} for image in IMAGES]
    images[9]["bytes"], images[13] = None, {"bytes": images[13]["bytes"][:40], "path": "/etc/passwd"}  # type: ignore
    pq.write_table(pa.table({"image": images, "label": LABELS}), file, row_group_size=4)
    with pytest.raises(ConfigError, match=r"2 of 48 images cannot be decoded \(row (9|13) of .*; row (9|13) of"):
        load_data(config(tmp_path, test_fraction=0.2))


def test_a_class_of_the_description_may_have_no_image(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", IMAGES, LABELS % 2)
    data = load_data(config(tmp_path))
    assert (data.classes, data.names, set(data.train.labels)) == (3, NAMES, {0, 1})
