"""Images in files read as an array of the same images does, and so do their batches."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.data.files import draw
from trainables.config import Augment
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.decoding.shards import read_shard, write_shard
from trainables.data.device_pixels import StreamedPixels, batches_of
from trainables.data.images import Images, ImageSet
from trainables.errors import StorageUnavailable

COUNT, PER_FILE = 50, 7
CPU = torch.device("cpu")


@pytest.fixture
def array() -> np.ndarray:
    return np.ascontiguousarray(draw(COUNT, size=(5, 6))[0].transpose(0, 3, 1, 2))


@pytest.fixture
def mapped(array: np.ndarray, tmp_path: Path) -> MappedPixels:
    starts = np.arange(0, COUNT, PER_FILE)
    paths = [tmp_path / f"{start}.arrow" for start in starts]
    for path, start in zip(paths, starts, strict=True):
        write_shard(path, array[start : start + PER_FILE], {})
    return MappedPixels(paths, starts, np.arange(COUNT), (3, 5, 6))


def sets(array: np.ndarray, mapped: MappedPixels) -> tuple[ImageSet, ImageSet]:
    """The same images of every second place, some of them twice, in another order."""
    index = np.concatenate([np.arange(0, COUNT, 2)[::-1], [3, 3]])
    labels = np.arange(COUNT)
    return ImageSet(array, labels).take(index), ImageSet(mapped, labels).take(index)


def test_images_are_read_as_from_an_array(array: np.ndarray, mapped: MappedPixels) -> None:
    expected, found = (part.images for part in sets(array, mapped))
    assert isinstance(found, MappedPixels)
    assert (found.shape, len(found), found.nbytes) == (expected.shape, len(expected), expected.nbytes)
    for places in (slice(None), slice(3, 11), slice(20, None), np.array([5, 0, 26, 5]), np.array([], np.int64), 4):
        assert np.array_equal(found[places], expected[places])
    assert np.array_equal(found.whole(), expected)
    assert np.array_equal(np.concatenate(list(found.parts())), expected)
    assert np.array_equal(found.take(np.array([2, 9])).take(np.array([1]))[:], expected[[9]])


def test_parts_take_little_memory_each(
    array: np.ndarray, mapped: MappedPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.decoding.mapped.PART_BYTES", 4 * 90)
    parts = list(mapped.parts())
    assert [len(part) for part in parts] == [4] * 12 + [2]
    assert np.array_equal(np.concatenate(parts), array)


def test_another_process_gets_the_names_of_the_files(array: np.ndarray, mapped: MappedPixels) -> None:
    mapped[:]  # the files are open
    content = pickle.dumps(mapped)
    assert len(content) < array.nbytes
    assert np.array_equal(pickle.loads(content)[:], array)


def test_files_that_are_gone_are_noticed(mapped: MappedPixels, tmp_path: Path) -> None:
    assert mapped.here
    (tmp_path / "7.arrow").unlink()
    assert not mapped.here
    with pytest.raises(StorageUnavailable, match=r"cannot read the decoded images in .*7\.arrow: .*Remove the file"):
        mapped[:]


def test_a_damaged_file_is_named(mapped: MappedPixels, tmp_path: Path) -> None:
    file = tmp_path / "0.arrow"
    whole = file.read_bytes()
    for content in (b"", whole[:100], whole[:-40], b"x" * len(whole)):
        file.write_bytes(content)
        with pytest.raises(StorageUnavailable, match=r"cannot read the decoded images in .*0\.arrow"):
            read_shard(file)


def test_nothing_is_left_of_a_shard_that_cannot_be_written(array: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "0.arrow").mkdir()
    with pytest.raises(StorageUnavailable, match=r"cannot write .*0\.arrow"):
        write_shard(tmp_path / "0.arrow", array, {})
    assert [path.name for path in tmp_path.iterdir()] == ["0.arrow"]


@pytest.mark.parametrize("size", [4, 5, 27, 100])
def test_batches_are_those_of_images_in_memory(array: np.ndarray, mapped: MappedPixels, size: int) -> None:
    memory, files = (Images(part, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2), CPU) for part in sets(array, mapped))
    assert isinstance(files.pixels, StreamedPixels)
    augment = Augment(crop_padding=1, flip=True)

    def equal(first: Images, second: Images) -> None:
        for a, b in zip(first.batches(size), second.batches(size), strict=True):
            assert a[0].equal(b[0])
            assert a[1].equal(b[1])
        draws = (torch.Generator().manual_seed(3) for _ in range(2))
        one, other = (list(part.shuffled(size, augment, g)) for part, g in zip((first, second), draws, strict=True))
        for a, b in zip(one, other, strict=True):
            assert a[0].equal(b[0])
            assert a[1].equal(b[1])

    equal(memory, files)
    equal(memory.sample(9, 1), files.sample(9, 1))
    for one, other in zip(memory.split(10), files.split(10), strict=True):
        equal(one, other)


def test_batches_are_read_a_few_ahead(mapped: MappedPixels) -> None:
    asked: list[int] = []

    class Counted(StreamedPixels):
        def __getitem__(self, places: slice | torch.Tensor) -> torch.Tensor:
            asked.append(len(asked))
            return super().__getitem__(places)

    found = batches_of(Counted(mapped, CPU), [slice(n, n + 1) for n in range(20)])
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert 1 <= len(asked) <= 4


def test_an_error_while_reading_ahead_is_the_readers(mapped: MappedPixels, tmp_path: Path) -> None:
    (tmp_path / "21.arrow").unlink()
    images = Images(ImageSet(mapped, np.arange(COUNT)), (0.5,) * 3, (0.5,) * 3, CPU)
    with pytest.raises(StorageUnavailable, match=r"21\.arrow"):
        list(images.batches(10))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_images_go_to_a_gpu_that_has_room(array: np.ndarray, mapped: MappedPixels) -> None:
    device = torch.device("cuda")
    for room, kind in ((array.nbytes, torch.Tensor), (array.nbytes - 1, StreamedPixels)):
        images = Images(ImageSet(mapped, np.arange(COUNT)), (0.5,) * 3, (0.5,) * 3, device, room_bytes=room)
        assert isinstance(images.pixels, kind)
        found = torch.cat([images.pixels[part] for part in torch.arange(COUNT, device=device).split(8)])
        assert np.array_equal(found.cpu().numpy(), array)
