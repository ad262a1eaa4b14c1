"""Images are decoded once on a machine, whatever ends a process in between, and are the same however they are held."""

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data.files import draw, encoded, write_folder
from trainables.config import DataConfig
from trainables.data import data_sets
from trainables.data.constants import level_counts
from trainables.data.data_sets import load_data, load_test_images
from trainables.data.decoding import decode_once
from trainables.data.decoding.decode_once import Decoder, image_cache
from trainables.data.decoding.encoded import EncodedImages, Form, file_stamp
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.images import ImageSet
from trainables.device import choose_device
from trainables.errors import ConfigError, StorageUnavailable

COLORS, _ = draw(6)
GRAYS = COLORS[..., 0]
FORM = Form((8, 8))


def listed(files: list[bytes], stamp: Callable[[int], str] | None = None) -> EncodedImages:
    places = np.arange(len(files))
    return EncodedImages(places, places, files.__getitem__, "file {}".format, stamp)


def decoded(images: EncodedImages, form: Form = FORM, *, skip: bool = False) -> ImageSet:
    return Decoder(Path("unused"), skip=skip).decoded(images, form)[0]


def counting(images: EncodedImages) -> tuple[EncodedImages, Counter[int]]:
    """The same images, and how often each of them was read."""
    asked: Counter[int] = Counter()

    def read(place: int) -> object:
        asked[place] += 1
        return images.read(place)

    return EncodedImages(images.labels, images.places, read, images.name, images.stamp), asked  # type: ignore[arg-type]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two images of 8x8, and no set that is held in memory."""
    monkeypatch.setattr(decode_once, "SHARD_BYTES", 2 * 3 * 64)
    monkeypatch.setattr(data_sets, "IN_MEMORY_BYTES", 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_images_are_decoded_in_their_order(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    images = listed([encoded(image) for image in COLORS])
    found = decoded(images.take(np.array([4, 1, 2])))
    assert found.labels.tolist() == [4, 1, 2]
    assert np.array_equal(found.images, COLORS[[4, 1, 2]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("stamp", [None, "image {}".format])
def test_images_have_one_channel_if_none_has_colors(
    stamp: Callable[[int], str] | None, tmp_path: Path, small: None
) -> None:
    def found(files: list[bytes], name: str, channels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        decoder = Decoder(tmp_path / name)
        images, counts = decoder.decoded(listed(files, stamp), Form((8, 8), channels))
        return np.asarray(images.images[:]), counts

    grays, counts = found([encoded(image) for image in GRAYS], "grays")
    assert np.array_equal(grays, GRAYS[:, None])
    assert np.array_equal(counts, level_counts(grays))
    # The first with colors is the last of the first shard, the first of the second, and in none.
    for place in (1, 2, 5):
        files = [encoded(image) for image in GRAYS]
        files[place] = encoded(COLORS[place])
        mixed, counts = found(files, f"mixed{place}")
        expected = np.repeat(GRAYS[:, None], 3, axis=1)
        expected[place] = COLORS[place].transpose(2, 0, 1)
        assert np.array_equal(mixed, expected)
        assert np.array_equal(counts, level_counts(mixed))
        assert np.array_equal(found(files, f"three{place}", 3)[0], mixed)
        assert found(files, f"one{place}", 1)[0].shape == (6, 1, 8, 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_channels_are_known_before_images_are_decoded(mode: str) -> None:
    gray = Image.fromarray(GRAYS[0])
    image = Image.fromarray(GRAYS[0].astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "CMYK" else "PNG")
    for files in ([stream.getvalue()], [b"", encoded(GRAYS[1]), stream.getvalue()], [encoded(GRAYS[1])]):
        images = listed(files)
        assert images.channels() == decoded(images, skip=True).images.shape[1]


def test_images_of_any_size_cover_the_same_size_and_are_cut_about_the_center() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    tall = wide.transpose(1, 0, 2)
    found = decoded(listed([encoded(wide), encoded(tall)]), Form((10, 10))).images
    assert (found[:] == 200).all()
    twice = decoded(listed([encoded(wide)]), Form((20, 20))).images[:]
    assert (twice[..., 1:-1] == 200).all()
    assert (twice[..., [0, -1]] == 150).all()  # a quarter of their shares is of the dark columns


def test_what_cannot_be_decoded_is_counted_and_named() -> None:
    files = [encoded(image) for image in COLORS]
    for place in (1, 2, 4, 5):
        files[place] = files[place][:40]
    with pytest.raises(
        ConfigError, match=r"4 of 6 images cannot be decoded \(file 1: .*; file 2: .*; and 1 more\)"
    ) as e:
        decoded(listed(files))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("stamp", [None, "image {}".format])
def test_what_cannot_be_decoded_is_left_out_where_the_spec_says_so(
    stamp: Callable[[int], str] | None, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    files = [encoded(image) for image in COLORS]
    files[2], files[4] = b"", files[4][:40]
    good = [0, 1, 3, 5]
    for _ in range(2):  # decoded, then from the shards
        found, counts = Decoder(tmp_path, skip=True).decoded(listed(files, stamp), FORM)
        assert found.labels.tolist() == good
        assert np.array_equal(found.images[:], COLORS[good].transpose(0, 3, 1, 2))
        assert np.array_equal(counts, level_counts(found.images[:]))
        assert "2 of 6 images cannot be decoded (file 2: " in caplog.text
        assert "are left out" in caplog.text
        caplog.clear()
    with pytest.raises(ConfigError, match="2 of 6 images cannot be decoded"):
        Decoder(tmp_path).decoded(listed(files, stamp), FORM)
    with pytest.raises(ConfigError, match="2 of 2 images cannot be decoded"):
        decoded(listed([b"", b"x"]), skip=True)


def test_a_name_of_a_file_stays_in_its_line() -> None:
    odd = EncodedImages(np.array([0]), np.array([0]), lambda place: b"", lambda place: "a\nb\udcff\x1b[2J.png")
    with pytest.raises(ConfigError) as caught:
        decoded(odd)
    assert str(caught.value).isprintable()


def test_nothing_is_decoded_twice(tmp_path: Path, small: None) -> None:
    images, asked = counting(listed([encoded(image) for image in COLORS], "image {}".format))
    told: list[tuple[int, int]] = []
    decoder = Decoder(tmp_path, watch=lambda done, total: told.append((done, total)))
    first, second = (decoder.decoded(images, FORM)[0].images for _ in range(2))
    assert asked == Counter(range(6))
    assert told == [(0, 6), (2, 6), (4, 6), (6, 6)]
    assert isinstance(first, MappedPixels)
    assert np.array_equal(first[:], second[:])
    assert np.array_equal(first[:], COLORS.transpose(0, 3, 1, 2))
    # A shard that is gone is made again, and no other.
    min(tmp_path.glob("*.arrow")).unlink()
    decoder.decoded(images, FORM)
    assert sum(asked.values()) == 8
    # Another form is other pixels.
    decoder.decoded(images, Form((8, 8), crop=0.5))
    decoder.decoded(images, Form((8, 8), channels=1))
    assert sum(asked.values()) == 8 + 12


def test_an_image_that_changed_is_decoded_again(tmp_path: Path, small: None) -> None:
    files = [tmp_path / f"{n}.png" for n in range(6)]
    for file, image in zip(files, COLORS, strict=True):
        file.write_bytes(encoded(image))
    places = np.arange(6)
    images, asked = counting(EncodedImages(places, places, files.__getitem__, str, lambda n: file_stamp(files[n])))
    decoder = Decoder(tmp_path / "cache")
    decoder.decoded(images, FORM)
    time_of = files[3].stat()
    files[3].write_bytes(encoded(COLORS[0]))
    os.utime(files[3], ns=(time_of.st_atime_ns, time_of.st_mtime_ns))  # as a copy that keeps the time does
    found = decoder.decoded(images, FORM)[0].images
    assert np.array_equal(found[3], found[0])
    assert asked == Counter({0: 1, 1: 1, 2: 2, 3: 2, 4: 1, 5: 1})


def test_a_set_of_any_size_is_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, in one file or in many: fingerprint, splits, constants and test images are those of arrays."""
    images, labels = draw(60)
    root = write_folder(tmp_path / "images", images, labels)
    np.savez(tmp_path / "all.npz", images=images, labels=labels)
    config = {"image_size": 8, "validation": {"from": "train", "fraction": 0.2}}
    array = load_data(DataConfig.model_validate({"name": "arrays", "root": str(tmp_path / "all.npz"), **config}))
    for shard, memory in ((1 << 20, 1 << 20), (1 << 20, 0), (5 * 192, 1 << 20), (5 * 192, 0)):
        monkeypatch.setattr(decode_once, "SHARD_BYTES", shard)
        monkeypatch.setattr(data_sets, "IN_MEMORY_BYTES", memory)
        cache = tmp_path / f"{shard}-{memory}"
        folder = DataConfig.model_validate({"name": "image_folder", "root": str(root), "cache": str(cache), **config})
        for _ in range(2):
            data = load_data(folder)
            assert isinstance(data.train.images, MappedPixels) == (memory == 0)
            assert data.fingerprint == array.fingerprint
            assert (data.mean, data.std, data.channels) == (array.mean, array.std, 3)
            for part, expected in ((data.train, array.train), (data.val, array.val)):
                assert np.array_equal(part.images[:], expected.images)
                assert np.array_equal(part.labels, expected.labels)
        assert len(list((cache / "fingerprints").glob("*"))) == (1 if memory == 0 else 0)
        here, there = (load_test_images(c, choose_device(0).torch) for c in (folder, config_of(tmp_path, config)))
        assert here.pixels[:].equal(there.pixels[:])


def config_of(place: Path, others: dict[str, object]) -> DataConfig:
    return DataConfig.model_validate({"name": "arrays", "root": str(place / "all.npz"), **others})


def test_another_split_has_a_fingerprint_of_its_own(tmp_path: Path, small: None) -> None:
    root = write_folder(tmp_path / "images", *draw(60))
    found = set()
    for seed in (0, 1, 0):
        config = {"name": "image_folder", "root": str(root), "cache": str(tmp_path / "c"), "image_size": 8}
        found.add(load_data(DataConfig.model_validate({**config, "split_seed": seed})).fingerprint)
    assert len(found) == 2


def test_a_disk_that_is_too_small_is_said_before_anything_is_decoded(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, asked = counting(listed([encoded(image) for image in COLORS], "image {}".format))
    monkeypatch.setattr(decode_once.shutil, "disk_usage", lambda place: SimpleNamespace(free=383))
    with pytest.raises(ConfigError, match=r"6 images take 0\.0 GB .* 0\.0 GB free: set data\.cache"):
        Decoder(tmp_path / "there").decoded(images, FORM)
    assert not asked


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, small: None) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match=r"cannot write .*file/.*: Not a directory"):
        Decoder(tmp_path / "file").decoded(listed([encoded(COLORS[0])], str), FORM)


def test_decoded_images_lie_in_the_users_cache_or_where_the_spec_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    assert image_cache(None) == Path("/somewhere/tune-app/images")
    assert image_cache("~/fast") == Path("/home/me/fast")


DECODE = """
import sys, time
from pathlib import Path
from trainables.config import DataConfig
from trainables.data import data_sets
from trainables.data.decoding import decode_once, encoded
from trainables.data.data_sets import load_data

log, slow = open(sys.argv[3], "a", buffering=1), float(sys.argv[4])
decode_once.SHARD_BYTES, data_sets.IN_MEMORY_BYTES = 10 * 192, 0
whole = encoded.pixels

def pixels(file, channels=None):
    log.write(f"{Path(file).name}\\n")
    time.sleep(slow)
    return whole(file, channels)

encoded.pixels = pixels
config = {"name": "image_folder", "root": sys.argv[1], "cache": sys.argv[2], "image_size": 8}
print(load_data(DataConfig.model_validate(config)).fingerprint)
"""


def start(root: Path, cache: Path, log: Path, *, slow_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DECODE, str(root), str(cache), str(log), str(slow_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_loses_one_shard_at_most(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", *draw(100))
    cache, log = tmp_path / "cache", tmp_path / "log"
    for kill in range(3):
        process = start(root, cache, log, slow_s=0.02)
        lines = 25 * (kill + 1)
        while log_lines(log) < lines:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(root, cache, log, slow_s=0)
    found, _ = last.communicate()
    twice = [n for n in Counter(log.read_text().split()).values() if n > 1]
    assert sum(n - 1 for n in twice) <= 3 * 10
    assert log_lines(log) >= 80  # the others are the test set
    whole = start(root, tmp_path / "other", tmp_path / "other log", slow_s=0)
    assert found == whole.communicate()[0]


def log_lines(log: Path) -> int:
    return len(log.read_text().split()) if log.exists() else 0


def test_processes_of_a_machine_share_the_work(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", *draw(60))
    log = tmp_path / "log"
    together = [start(root, tmp_path / "cache", log, slow_s=0.01) for _ in range(2)]
    found = {process.communicate()[0] for process in together}
    assert len(found) == 1
    assert set(Counter(log.read_text().split()).values()) == {1}
