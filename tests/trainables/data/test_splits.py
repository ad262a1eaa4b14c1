import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import DataConfig, Validation
from trainables.data.images import ImageSet
from trainables.data.sources import Source
from trainables.data.splits import shortened, split
from trainables.errors import ConfigError

CLASSES = 5


def numbered(start: int, counts: list[int]) -> ImageSet:
    """Images of one pixel that each have a number of their own, so many of each class, in any order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    return ImageSet(np.arange(start, start + len(labels), dtype=np.uint16).reshape(-1, 1, 1, 1), labels)


def source(test_counts: list[int]) -> Source:
    return Source(numbered(0, [60] * CLASSES), numbered(1000, test_counts), CLASSES, (0.5,), (0.5,))


def numbers(part: ImageSet) -> list[int]:
    return part.images.ravel().tolist()


@given(
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.1, 0.9),
    counts=st.lists(st.integers(10, 40), min_size=CLASSES, max_size=CLASSES),
    where=st.sampled_from(["train", "test"]),
)
def test_splits_share_no_image_and_hold_each(seed: int, fraction: float, counts: list[int], where: str) -> None:
    whole = source(counts)
    share = Validation(source="test", fraction=fraction) if where == "test" else Validation(fraction=fraction / 2)
    train, val, test = split(whole, DataConfig(validation=share, split_seed=seed))
    rest, tested = numbers(whole.rest), numbers(whole.test)
    assert sorted(numbers(train) + numbers(val) + numbers(test)) == rest + tested
    if where == "test":
        assert numbers(train) == rest
    else:
        assert numbers(test) == tested
    assert len(val) == round((sum(counts) if where == "test" else len(rest)) * share.fraction)
    label = dict(zip(rest + tested, [*whole.rest.labels, *whole.test.labels], strict=True))
    for part in (train, val, test):
        assert [label[number] for number in numbers(part)] == part.labels.tolist()
    if where == "test":
        drawn = np.bincount(val.labels, minlength=CLASSES)
        assert np.abs(drawn - np.array(counts) * len(val) / sum(counts)).max() < 1


def drawn(counts: list[int], fraction: float, seed: int) -> ImageSet:
    """The validation images, of training images with these counts by class."""
    whole = Source(numbered(0, counts), numbered(1000, [10] * len(counts)), len(counts), (0.5,), (0.5,))
    _, val, _ = split(whole, DataConfig(validation=Validation(fraction=fraction), split_seed=seed))
    assert isinstance(val, ImageSet)
    return val


@given(
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.1, 0.45),
    counts=st.lists(st.integers(10, 39), min_size=1, max_size=4),
)
def test_training_images_of_very_different_classes_are_drawn_class_by_class(
    seed: int, fraction: float, counts: list[int]
) -> None:
    counts = [10, 40, *counts]
    total = round(sum(counts) * fraction)
    found = np.bincount(drawn(counts, fraction, seed).labels, minlength=len(counts))
    assert found.sum() == total
    assert np.abs(found - np.array(counts) * total / sum(counts)).max() < 1


@pytest.mark.parametrize(
    ("counts", "fraction"),
    [
        ([10, 39, 39], 0.1),  # not so different
        ([20, 200, 200, 200], 0.005),  # three images cannot be of four classes
        ([1, 40, 40], 0.1),  # one image cannot be on both sides
    ],
)
def test_other_training_images_are_drawn_as_ever(counts: list[int], fraction: float) -> None:
    """Stored experiments go on."""
    order = np.random.default_rng(3).permutation(sum(counts))[: round(sum(counts) * fraction)]
    assert numbers(drawn(counts, fraction, seed=3)) == sorted(order)


def test_a_share_of_the_test_set_follows_its_seed() -> None:
    def drawn(seed: int) -> list[int]:
        config = DataConfig(validation=Validation(source="test", fraction=0.5), split_seed=seed)
        return numbers(split(source([20] * CLASSES), config)[1])

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([20, 20, 20, 20, 1], 0.5, "40 of 81 test images cannot hold each of 5 classes, of which the smallest has 1"),
        ([20] * 5, 0.03, "3 of 100 test images cannot hold each of 5 classes"),
        ([20] * 5, 0.98, "from: train"),
        ([20] * 5, 0.001, "data.validation.fraction 0.001 leaves an empty split of 100 images"),
    ],
)
def test_a_share_that_cannot_hold_each_class_is_refused(counts: list[int], fraction: float, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        split(source(counts), DataConfig(validation=Validation(source="test", fraction=fraction)))
    assert "\n" not in str(caught.value)


@given(counts=st.lists(st.integers(1, 300), min_size=2, max_size=8), images=st.integers(16, 400))
def test_a_rehearsal_has_so_many_images_of_each_split_and_of_each_class_its_share(
    counts: list[int], images: int
) -> None:
    whole = Source(numbered(0, counts), numbered(5000, counts), len(counts), val=numbered(9000, [50] * len(counts)))
    found = shortened(whole, images, "own")
    for few, part in zip((found.rest, found.test, found.val), (whole.rest, whole.test, whole.val), strict=True):
        assert few is not None
        assert part is not None
        assert len(few) == min(images, len(part))
        assert set(numbers(few)) <= set(numbers(part))
        assert numbers(few) == sorted(numbers(few))
        label = dict(zip(numbers(part), part.labels, strict=True))
        assert [label[number] for number in numbers(few)] == few.labels.tolist()
        have, want = np.bincount(few.labels, minlength=len(counts)), np.bincount(part.labels)
        assert (have >= np.minimum(want, 2)).all()
        large = want * len(few) / len(part) >= 3  # the others may have the two that each class keeps
        assert (have[large] <= np.ceil(want * len(few) / len(part))[large] + 1).all()


def test_a_rehearsal_has_the_same_images_whatever_the_split() -> None:
    data = [shortened(source([20] * CLASSES), 50, "own") for _ in range(2)]
    assert numbers(data[0].rest) == numbers(data[1].rest)
    with pytest.raises(ConfigError, match=r"data\.images is 9, but must be at least 10: two for each of the 5 classes"):
        shortened(source([20] * CLASSES), 9, "own")
