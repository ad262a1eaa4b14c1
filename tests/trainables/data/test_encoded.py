import numpy as np
import pytest

from tests.trainables.data.files import draw, encoded
from trainables.data.decode import Undecodable
from trainables.data.encoded import EncodedImages
from trainables.errors import ConfigError

COLORS, _ = draw(6)
GRAYS = COLORS[..., 0]


def listed(files: list[bytes]) -> EncodedImages:
    return EncodedImages(np.arange(len(files)), np.arange(len(files)), files.__getitem__, "file {}".format)


def test_images_are_decoded_in_their_order() -> None:
    images = listed([encoded(image) for image in COLORS])
    found = images.take(np.array([4, 1, 2])).decoded((8, 8))
    assert found.labels.tolist() == [4, 1, 2]
    assert np.array_equal(found.images, COLORS[[4, 1, 2]].transpose(0, 3, 1, 2))


def test_images_have_one_channel_if_none_has_colors() -> None:
    assert listed([encoded(image) for image in GRAYS]).decoded((8, 8)).images.shape == (6, 1, 8, 8)
    mixed = listed([encoded(GRAYS[0]), encoded(COLORS[1]), encoded(GRAYS[2])])
    found = mixed.decoded((8, 8)).images
    assert np.array_equal(found[0], np.repeat(GRAYS[:1], 3, axis=0))
    assert np.array_equal(found[1], COLORS[1].transpose(2, 0, 1))
    assert np.array_equal(found, mixed.decoded((8, 8), channels=3).images)
    assert mixed.decoded((8, 8), channels=1).images.shape == (3, 1, 8, 8)


def test_images_of_any_size_cover_the_same_size_and_are_cut_about_the_center() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    tall = wide.transpose(1, 0, 2)
    found = listed([encoded(wide), encoded(tall)]).decoded((10, 10)).images
    assert (found == 200).all()
    twice = listed([encoded(wide)]).decoded((20, 20)).images
    assert (twice[..., 1:-1] == 200).all()
    assert (twice[..., [0, -1]] == 150).all()  # a quarter of their shares is of the dark columns


def test_images_are_decoded_one_at_a_time() -> None:
    asked: list[int] = []
    files = [encoded(image) for image in COLORS]
    images = EncodedImages(np.arange(6), np.arange(6), lambda place: asked.append(place) or files[place], str)
    each = images.each((8, 8))
    assert asked == []
    next(each)
    assert asked == [0]


def test_what_cannot_be_decoded_is_counted_and_named() -> None:
    files = [encoded(image) for image in COLORS]
    for place in (1, 2, 4, 5):
        files[place] = files[place][:40]
    kinds = [isinstance(found, Undecodable) for found in listed(files).each((8, 8))]
    assert kinds == [False, True, True, False, True, True]
    with pytest.raises(
        ConfigError, match=r"4 of 6 images cannot be decoded \(file 1: .*; file 2: .*; and 1 more\)"
    ) as e:
        listed(files).decoded((8, 8))
    assert "\n" not in str(e.value)


def test_what_cannot_be_decoded_is_left_out_where_the_spec_says_so(caplog: pytest.LogCaptureFixture) -> None:
    files = [encoded(image) for image in COLORS]
    files[2], files[4] = b"", files[4][:40]
    found = listed(files).decoded((8, 8), skip=True)
    assert found.labels.tolist() == [0, 1, 3, 5]
    assert np.array_equal(found.images, COLORS[[0, 1, 3, 5]].transpose(0, 3, 1, 2))
    assert "2 of 6 images cannot be decoded (file 2: " in caplog.text
    assert "are left out" in caplog.text
    with pytest.raises(ConfigError, match="2 of 2 images cannot be decoded"):
        listed([b"", b"x"]).decoded((8, 8), skip=True)


def test_a_name_of_a_file_stays_in_its_line() -> None:
    odd = EncodedImages(np.array([0]), np.array([0]), lambda place: b"", lambda place: "a\nb\udcff\x1b[2J.png")
    with pytest.raises(ConfigError) as caught:
        odd.decoded((8, 8))
    assert str(caught.value).isprintable()
