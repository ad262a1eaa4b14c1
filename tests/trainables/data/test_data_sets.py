import hashlib
import io
import math
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision import datasets

from tests.trainables.factories import CPU, digits, make_images
from trainables.config import DATASETS, Augment, DataConfig, Validation
from trainables.data.augmentation.augment import change, check_channels, cover
from trainables.data.data_sets import load_data, load_test_images
from trainables.data.images import Images, ImageSet
from trainables.data.needs import image_needs
from trainables.data.sources import Source
from trainables.errors import ConfigError

NONE = Augment(crop_padding=0)
DIGITS = DataConfig(name="digits", image_size=8)


def rows(images: np.ndarray | torch.Tensor) -> list[bytes]:
    return [np.asarray(image).tobytes() for image in images]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sizes_of_the_digits() -> None:
    data = digits()
    assert (len(data.train), len(data.val), data.classes, data.channels) == (1293, 144, 10, 1)
    assert len(load_test_images(DIGITS, CPU.torch)) == 360
    assert data.train.images.shape == (1293, 1, 8, 8)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.max() == 255
    assert set(data.train.labels) == set(range(10))


def test_splits_share_no_image_and_hold_all() -> None:
    from sklearn.datasets import load_digits

    data, test = digits(), load_test_images(DIGITS, CPU.torch)
    splits = [rows(data.train.images), rows(data.val.images), rows(test.pixels)]
    together = [row for split in splits for row in split]
    everything = rows(np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:, None])
    assert len(set(everything)) == 1797, "the digits are all different, so that images name themselves"
    assert sorted(together) == sorted(everything)


def test_labels_stay_with_their_images() -> None:
    from sklearn.datasets import load_digits

    raw = load_digits()
    label = dict(zip(rows(np.round(raw.images * (255 / 16)).astype(np.uint8)), raw.target, strict=True))
    data = digits()
    for part in (data.train, data.val):
        assert [label[row] for row in rows(part.images[:, 0])] == part.labels.tolist()


def test_normalized_images_have_zero_mean_and_unit_spread() -> None:
    data = digits()
    images = Images(data.train, data.mean, data.std, CPU.torch)
    batch = torch.cat([x for x, _ in images.batches(500)])
    assert abs(float(batch.mean())) < 0.02
    assert float(batch.std()) == pytest.approx(1, abs=0.02)


def test_the_split_follows_its_seed_and_the_test_set_does_not() -> None:
    other = DIGITS.model_copy(update={"split_seed": 1})
    assert rows(load_data(DIGITS).val.images) == rows(digits().val.images)
    assert rows(load_data(other).val.images) != rows(digits().val.images)
    assert rows(load_test_images(other, CPU.torch).pixels) == rows(load_test_images(DIGITS, CPU.torch).pixels)


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"validation": Validation(fraction=0.2)}, {"image_size": 16}])
def test_the_fingerprint_names_the_images_of_each_split(change: dict[str, Any]) -> None:
    assert load_data(DIGITS.model_copy(update=change)).fingerprint != digits().fingerprint


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"image_size": 8}, "30cdae0f58a9002c8e3f9fdd8cc5b1ec51741e6814ef785d4a60f1816dcd2494"),
        (
            {"image_size": 8, "val_fraction": 0.2},
            "36749d198887443898eae485ba961210083fa27170147d5ee307a8e50c7a6cc3",
        ),
        (
            {"image_size": 12, "validation": {"from": "train", "fraction": 0.3}, "split_seed": 7},
            "e05ff2163796f6761e794c1e01e030d007448bc2eb7610fea607fac5a76fbb3f",
        ),
    ],
)
def test_the_fingerprint_of_a_share_of_the_training_images_is_that_of_ever(
    content: dict[str, Any], expected: str
) -> None:
    """Taken when the share was spelled `val_fraction`: stored experiments go on."""
    assert load_data(DataConfig.model_validate(content)).fingerprint == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_a_share_of_the_test_set_validates_and_the_rest_of_it_is_the_test_split(seed: int) -> None:
    config = DIGITS.model_copy(update={"validation": Validation(source="test", fraction=0.5), "split_seed": seed})
    data, test = load_data(config), load_test_images(config, CPU.torch)
    plain = digits()
    assert sorted(rows(data.train.images)) == sorted(rows(plain.train.images) + rows(plain.val.images))
    whole = rows(load_test_images(DIGITS, CPU.torch).pixels)
    assert sorted(rows(data.val.images) + rows(test.pixels)) == sorted(whole)
    assert len(data.val) == len(test) == 180
    assert data.fingerprint != plain.fingerprint


def test_the_fingerprint_does_not_name_the_place(tmp_path: Path) -> None:
    moved = DIGITS.model_copy(update={"root": str(tmp_path), "download": True})
    assert load_data(moved).fingerprint == digits().fingerprint


def test_other_sizes_are_interpolated() -> None:
    data = load_data(DIGITS.model_copy(update={"image_size": 32}))
    assert data.train.images.shape == (1293, 1, 32, 32)
    assert data.train.images.dtype == np.uint8
    blocks = data.train.images.reshape(1293, 8, 4, 8, 4).mean(axis=(2, 4))
    assert abs(blocks - data.train.images.mean()).mean() > 10
    assert np.abs(blocks - digits().train.images[:, 0]).mean() < 20


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"validation\.fraction 1e-05 leaves an empty split of 1437 images"):
        load_data(DIGITS.model_copy(update={"validation": Validation(fraction=1e-5)}))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_a_missing_data_set_names_the_folder_and_the_way_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_data(DataConfig(name=name, root=str(tmp_path)))
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "data.root" in message
    assert "data.download" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("a regular file", "a regular file has MD5 d41d8.*, but cifar-10-python.tar.gz has c58f3"),
        ("not a folder/below", "data set 'cifar10' is not usable in .*below"),
    ],
)
def test_an_unusable_root_is_refused(root: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a regular file").touch()
    with pytest.raises(ConfigError, match=expected):
        load_data(DataConfig(name="cifar10", root=str(tmp_path / root)))


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, *, classes: int) -> Path:
    """A small archive in CIFAR's own format, with its MD5s put in the place of the published ones."""
    kind = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100
    rng, label = np.random.default_rng(0), "labels" if classes == 10 else "fine_labels"
    sums, path = {}, folder / kind.filename
    with tarfile.open(path, "w:gz") as tar:
        for name, _ in [*kind.train_list, *kind.test_list, [kind.meta["filename"], ""]]:
            batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), label: list(range(10)) * 2}
            content = pickle.dumps({kind.meta["key"]: []} if name == kind.meta["filename"] else batch)
            member = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            member.size, sums[name] = len(content), hashlib.md5(content).hexdigest()
            tar.addfile(member, io.BytesIO(content))
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(kind, part, [[name, sums[name]] for name, _ in getattr(kind, part)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("by_file", [True, False])
@pytest.mark.parametrize(("name", "classes", "count"), [("cifar10", 10, 100), ("cifar100", 100, 20)])
def test_an_archive_of_cifar_is_read(
    name: str, classes: int, count: int, by_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cifar(tmp_path, monkeypatch, classes=classes)
    config = DataConfig(name=name, root=str(path if by_file else tmp_path), image_size=32)
    data = load_data(config)
    assert (len(data.train) + len(data.val), data.classes) == (count, classes)
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert len(load_test_images(config, CPU.torch)) == 20
    path.unlink()
    again = load_data(config.model_copy(update={"root": str(tmp_path)}))
    assert again.fingerprint == data.fingerprint


def test_a_changed_file_of_cifar_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(name="cifar10", root=str(write_cifar(tmp_path, monkeypatch, classes=10)))
    load_data(config)
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"not usable .* corrupted"):
        load_data(config)
    assert not (tmp_path / "hacked").exists()


def test_constants_of_the_configuration_replace_those_of_the_data_set() -> None:
    plain, other = digits(), load_data(DIGITS.model_copy(update={"mean": (0.5,), "std": (0.25,)}))
    assert (other.mean, other.std) == ((0.5,), (0.25,))
    assert other.fingerprint != plain.fingerprint
    half = load_data(DIGITS.model_copy(update={"std": (0.25,)}))
    assert (half.mean, half.std) == (plain.mean, (0.25,))
    assert len({other.fingerprint, half.fingerprint, plain.fingerprint}) == 3
    config = DIGITS.model_copy(update={"mean": (0.5,), "std": (0.25,)})
    batch, _ = next(load_test_images(config, CPU.torch).batches(500))
    assert (float(batch.min()), float(batch.max())) == (-2, 2)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_constants_for_another_number_of_channels_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{name} must hold a number for each of the 1 channels .* holds 2"):
        load_data(DIGITS.model_copy(update={name: (0.5, 0.5)}))


def test_a_mean_of_three_channels_wants_as_many_spreads() -> None:
    with pytest.raises(ConfigError, match=r"data.std must hold a number for each of the 3 channels .* holds 1"):
        load_data(DIGITS.model_copy(update={"mean": (0.5, 0.5, 0.5)}))


def test_a_spread_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        DataConfig(std=(0.0,))


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        ({"color_jitter": {"hue": 0.1}}, "color_jitter: saturation and hue need 3 channels, but the images have 1"),
        ({"color_jitter": {"saturation": 0.1}}, "leave both out"),
    ],
)
def test_colors_of_gray_images_cannot_change(augment: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_data(DIGITS.model_copy(update={"augment": Augment.model_validate(augment)}))


def test_a_policy_needs_gray_or_colored_images() -> None:
    check_channels(Augment(auto="trivial"), 1)
    check_channels(Augment(auto="trivial"), 3)
    with pytest.raises(ConfigError, match="auto: trivial needs 1 or 3 channels, but the images have 2: set it to none"):
        check_channels(Augment(auto="trivial"), 2)


def test_a_reflection_needs_an_image_larger_than_the_padding() -> None:
    with pytest.raises(ValidationError, match="crop_padding 8 must be below image_size 8 to reflect"):
        DataConfig(image_size=8, augment=Augment(crop_padding=8, crop_mode="reflect"))
    DataConfig(image_size=9, augment=Augment(crop_padding=8, crop_mode="reflect"))
    DataConfig(image_size=8, augment=Augment(crop_padding=8))


@pytest.mark.parametrize(
    ("labels", "test_labels", "expected"),
    [
        ([0, 1, 2, 3], [0], "labels must lie in 0..2, but lie in 0..3"),
        ([0, -1], [0], "-1"),
        ([0, 1], [], "test images: there are none"),
    ],
)
def test_a_damaged_data_set_is_refused(
    labels: list[int], test_labels: list[int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(given: list[int]) -> ImageSet:
        return ImageSet(np.zeros((len(given), 1, 8, 8), np.uint8), np.array(given, np.int64))

    def loader(config: DataConfig) -> Source:
        return Source(part(labels), part(test_labels), 3, (0.5,), (0.5,))

    monkeypatch.setitem(DATASETS._entries, "broken", loader)
    with pytest.raises(ConfigError, match=expected):
        load_data(DataConfig(name="broken", image_size=8))


def test_a_rehearsal_is_of_few_images_in_each_split() -> None:
    few = DIGITS.model_copy(update={"images": 200})
    data, whole = load_data(few), digits()
    assert (len(data.train), len(data.val), data.classes) == (180, 20, 10)
    assert set(rows(data.train.images)) < {*rows(whole.train.images), *rows(whole.val.images)}
    assert set(rows(load_test_images(few, CPU.torch).pixels)) < set(rows(load_test_images(DIGITS, CPU.torch).pixels))
    assert data.fingerprint != whole.fingerprint
    assert load_data(DIGITS.model_copy(update={"images": 5000})).fingerprint == whole.fingerprint
    assert few.identity() == {**DIGITS.identity(), "images": 200}


def numbered(count: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.arange(count).repeat(math.prod(shape)).reshape(count, *shape).astype(dtype)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"rest": ImageSet(numbered(4, 1, 8, 8, dtype=np.float32), np.array([0, 1, 0, 1]))},
            "'own': training images are float32, but pixels must be uint8 or uint16: save images.round",
        ),
        (
            {"test": ImageSet(numbered(4, 1, 8, 8, dtype=np.int64), np.array([0, 1, 0, 1]))},
            "'own': test images are int64, but pixels must be uint8 or uint16: save images.astype",
        ),
        ({"rest": ImageSet(numbered(4, 8, 8), np.array([0, 1, 0, 1]))}, r"have the shape \(4, 8, 8\), but must have"),
        ({"rest": ImageSet(numbered(5, 1, 8, 8), np.array([0, 1, 0, 1]))}, "there are 5 and 4 labels"),
        (
            {"test": ImageSet(numbered(4, 1, 8, 9), np.array([0, 1, 0, 1]))},
            "images of several shapes: training 1 x 8 x 8, test 1 x 8 x 9: bring them to one",
        ),
        ({"val": ImageSet(numbered(2, 3, 8, 8), np.array([0, 1]))}, "several shapes: .* validation 3 x 8 x 8"),
        ({"rest": ImageSet(numbered(4, 1, 8, 8), np.eye(4)[:, :2])}, "one class per image is what this program"),
        ({"rest": ImageSet(numbered(4, 1, 8, 8), np.zeros((4, 8, 8), int))}, "as maps of classes do"),
        ({"rest": ImageSet(numbered(4, 1, 8, 8), np.array([0.1, 0.2, 1, 0]))}, "targets of a regression"),
        (
            {"rest": ImageSet(numbered(4, 1, 8, 8), np.array([0, 0, 0, 1]))},
            "class 'b' has one training image, but a class must have two",
        ),
        ({"names": ("a",)}, "has 2 classes, but 1 names"),
    ],
)
def test_what_a_loader_may_not_return_is_refused_in_one_line(
    change: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = ImageSet(numbered(4, 1, 8, 8), np.array([0, 1, 0, 1]))
    good = {"rest": part, "test": part, "classes": 2, "mean": (0.5,), "std": (0.5,), "names": ("a", "b")}
    monkeypatch.setitem(DATASETS._entries, "own", lambda config: Source(**{**good, **change}))
    with pytest.raises(ConfigError, match=expected) as caught:
        load_data(DataConfig(name="own", image_size=8))
    assert "\n" not in str(caught.value)


def test_a_loader_may_return_images_of_any_size_and_of_sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    part = ImageSet(numbered(20, 1, 12, 10, dtype=np.uint16) * 257, np.arange(20, dtype=np.int32)[:, None] % 2)
    monkeypatch.setitem(DATASETS._entries, "own", lambda config: Source(part, part, 2))
    data = load_data(DataConfig(name="own", image_size=8))
    assert (data.train.images.dtype, data.train.images.shape) == (np.uint8, (18, 1, 8, 8))
    assert data.train.labels.dtype == np.int64
    assert (data.train.images[:, 0, 0, 0] % 2 == data.train.labels).all()


@pytest.mark.skipif("TUNE_APP_CIFAR10" not in os.environ, reason="TUNE_APP_CIFAR10 names no folder with CIFAR-10")
def test_cifar10() -> None:
    config = DataConfig(name="cifar10", root=os.environ["TUNE_APP_CIFAR10"])
    data = load_data(config)
    assert (len(data.train), len(data.val), data.channels) == (45_000, 5_000, 3)
    assert len(load_test_images(config, CPU.torch)) == 10_000
    pixels = data.train.images.astype(np.float64) / 255
    assert pixels.mean(axis=(0, 2, 3)) == pytest.approx(data.mean, abs=0.002)
    assert pixels.std(axis=(0, 2, 3)) == pytest.approx(data.std, abs=0.002)
    assert np.bincount(data.train.labels).min() > 4_300


def test_batches_hold_all_images_in_order() -> None:
    images = make_images(33)
    batches = list(images.batches(8))
    assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)
    assert torch.equal(torch.cat([x for x, _ in batches]), images.normalized(images.pixels))
    assert max(len(labels) for _, labels in batches) <= 8
    assert all(x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32 for x, _ in batches)


@pytest.mark.parametrize(("count", "size"), [(33, 8), (33, 32), (3, 2), (5, 2), (2, 100), (64, 64), (65, 64)])
def test_no_batch_has_a_single_image_and_none_is_left_out(count: int, size: int) -> None:
    images = make_images(count)
    for batches in (list(images.batches(size)), list(images.shuffled(size, NONE, generator()))):
        lengths = [len(labels) for _, labels in batches]
        assert sum(lengths) == count
        assert min(lengths) >= 2
        assert max(lengths) <= max(size, 3)
        assert len(lengths) == images.batch_count(size)


def test_one_image_is_one_batch() -> None:
    assert [len(labels) for _, labels in make_images(1).batches(8)] == [1]


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    images = make_images(50)
    expected = rows(images.normalized(images.pixels))

    def epoch(seed: int) -> list[bytes]:
        return [row for x, _ in images.shuffled(7, NONE, generator(seed)) for row in rows(x)]

    assert sorted(epoch(1)) == sorted(expected)
    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
    assert epoch(1) != expected


def test_labels_follow_the_shuffled_images() -> None:
    images = make_images(50)
    label = dict(zip(rows(images.normalized(images.pixels)), images.labels.tolist(), strict=True))
    for x, labels in images.shuffled(7, NONE, generator()):
        assert [label[row] for row in rows(x)] == labels.tolist()


def test_a_sample_is_seeded_and_without_repetition() -> None:
    images = make_images(50)
    sample = images.sample(20, seed=3)
    assert rows(sample.pixels) == rows(images.sample(20, seed=3).pixels)
    assert rows(sample.pixels) != rows(images.sample(20, seed=4).pixels)
    assert len(set(rows(sample.pixels))) == len(sample) == 20
    assert len(images.sample(1000, seed=3)) == 50
    assert torch.equal(sample.normalized(sample.pixels), images.normalized(sample.pixels))


def test_images_are_a_copy() -> None:
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    pixels.flags.writeable = False
    images = Images(ImageSet(pixels, np.zeros(2, np.int64)), (0.5,), (0.5,), CPU.torch)
    images.pixels.fill_(1)
    assert not pixels.any()


def test_an_epoch_is_augmented() -> None:
    images = make_images(40)
    augment = Augment(crop_padding=0, flip=True, cutout=3)
    [(batch, _)] = images.shuffled(40, augment, generator(1))
    other = generator(1)
    order = torch.randperm(40, generator=other)
    assert torch.equal(batch, cover(images.normalized(change(images.pixels[order], augment, other)), augment, other))
    assert (batch == 0).any()


def test_three_constants_make_three_channels_of_gray_images(tmp_path: Path) -> None:
    gray, colors = (
        load_data(DataConfig(name="digits", image_size=8, mean=mean, std=mean)) for mean in (None, (0.5, 0.4, 0.3))
    )
    assert (gray.channels, colors.channels) == (1, 3)
    assert np.array_equal(np.asarray(colors.train.images), np.repeat(np.asarray(gray.train.images), 3, axis=1))
    assert colors.fingerprint != gray.fingerprint
    for i in range(20):
        place = tmp_path / "folder" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), 10 * i, np.uint8)).save(place / f"{i}.png")
    config = DataConfig(name="image_folder", root=str(tmp_path / "folder"), image_size=8, cache=str(tmp_path / "cache"))
    config = config.model_copy(update={"validation": Validation(fraction=0.2)})
    assert load_data(config).channels == 1
    three = load_data(config.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (1.0, 1.0, 1.0)}))
    assert (three.channels, three.mean) == (3, (0.5, 0.4, 0.3))
    assert image_needs(config).decoded
