import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.data.decoding.decode import Undecodable, decoding, pixels, strict

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAYS = RNG.integers(0, 256, (6, 9), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "PPM", "TIFF"])
def test_a_format_without_loss_gives_its_pixels(kind: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(COLORS), kind, **({"lossless": True} if kind == "WEBP" else {}))
    (tmp_path / "image").write_bytes(content)
    for file in (content, tmp_path / "image", Image.open(io.BytesIO(content))):
        found = pixels(file)
        assert found.dtype == np.uint8
        assert np.array_equal(found, COLORS.transpose(2, 0, 1))


@pytest.mark.parametrize(("values", "channels"), [(COLORS, 3), (GRAYS, 1)])
def test_jpeg_is_near_its_pixels(values: np.ndarray, channels: int) -> None:
    smooth = np.full_like(values, 100)
    found = pixels(encoded(Image.fromarray(smooth), "JPEG"))
    assert found.shape == (channels, 6, 9)
    assert np.abs(found.astype(int) - 100).max() <= 2


def test_gray_images_have_one_channel_unless_three_are_asked() -> None:
    for image in (Image.fromarray(GRAYS), Image.fromarray(GRAYS > 127), Image.fromarray(GRAYS).convert("LA")):
        assert pixels(encoded(image)).shape == (1, 6, 9)
        assert np.array_equal(pixels(encoded(image), 3), np.repeat(pixels(encoded(image)), 3, axis=0))
    assert np.array_equal(pixels(encoded(Image.fromarray(GRAYS)))[0], GRAYS)


def test_colors_become_gray_where_one_channel_is_asked() -> None:
    found = pixels(encoded(Image.fromarray(COLORS)), 1)
    assert found.shape == (1, 6, 9)
    assert np.abs(found[0] - COLORS @ [0.299, 0.587, 0.114]).max() <= 1


def test_what_is_transparent_is_white() -> None:
    values = np.dstack([COLORS, np.repeat(np.array([0, 255, 128], np.uint8), 18).reshape(6, 9)])
    found = pixels(encoded(Image.fromarray(values, "RGBA"))).transpose(1, 2, 0)
    assert (found[:2] == 255).all()
    assert np.array_equal(found[2:4], COLORS[2:4])
    assert np.abs(found[4:] - (COLORS[4:] / 2 + 127.5)).max() <= 2


def test_a_palette_gives_its_colors() -> None:
    image = Image.fromarray(COLORS).quantize(256)
    assert np.array_equal(pixels(encoded(image)), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    transparent = encoded(image, transparency=image.getpixel((0, 0)))
    assert (pixels(transparent)[:, 0, 0] == 255).all()


def test_of_sixteen_bits_the_upper_ones_count() -> None:
    values = np.array([[0, 128, 129, 257, 32_768, 65_535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert pixels(encoded(Image.fromarray(values), kind)).tolist() == [[[0, 0, 1, 1, 128, 255]]]


@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_upright(turn: int) -> None:
    """A camera turns the pixels one way and says so; decoding turns them back."""
    exif = Image.Exif()
    exif[0x0112] = turn
    back = {
        **{1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
        **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90},
        **{7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270},
    }[turn]
    upright = Image.fromarray(COLORS)
    content = encoded(upright if back is None else upright.transpose(back), exif=exif)
    assert np.array_equal(pixels(content), COLORS.transpose(2, 0, 1))


def with_exif(tag: int, kind: int, value: bytes) -> bytes:
    """An image that lies on its side, with one more entry of this type in its EXIF data."""
    entries = sorted([(0x0112, 3, b"\6\0\0\0"), (tag, kind, value)])
    packed = b"".join(struct.pack("<HHI", name, form, 1) + content for name, form, content in entries)
    head = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return encoded(Image.fromarray(COLORS), "JPEG", exif=head + packed + bytes(4))


@pytest.mark.parametrize("tag", [0x010E, 0x011A, 0x0128, 0x927C])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 6, 7, 9, 11])
def test_entries_of_wrong_types_beside_the_orientation_change_nothing(tag: int, kind: int) -> None:
    plain = Image.open(io.BytesIO(encoded(Image.fromarray(COLORS), "JPEG")))
    expected = np.asarray(plain.transpose(Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    with strict(), decoding():
        assert np.array_equal(pixels(with_exif(tag, kind, b"\1\2\0\0")), expected)


@pytest.mark.parametrize("kind", [5, 10, 12])
def test_entries_that_point_beyond_the_file_do_not_refuse_its_pixels(kind: int) -> None:
    with strict(), decoding():
        assert pixels(with_exif(0x011A, kind, b"\xff\xff\0\0")).size == COLORS.size


NOISE = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no image"),
        (b"no image at all", "no image in any of the formats JPEG, PNG, WEBP"),
        (encoded(Image.fromarray(GRAYS), "GIF"), "no image in any of the formats"),
        (NOISE[: len(NOISE) // 2], "truncated"),
        (encoded(Image.fromarray(COLORS))[:-30], "."),
        (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "32 bits a pixel: save it with 8 or 16"),
        (encoded(Image.new("1", (20_000, 10_000))), "more than 89,478,485 pixels"),
        (encoded(Image.new("1", (10_000, 10_000))), "more than 89,478,485 pixels"),
    ],
)
def test_what_cannot_be_decoded_says_why(content: bytes, expected: str) -> None:
    with pytest.raises(Undecodable, match=expected) as caught, strict(), decoding():
        pixels(content)
    assert "\n" not in str(caught.value)


def test_any_damage_of_a_file_is_said_alike() -> None:
    """No other exception may come out, whatever byte is another one."""
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "PPM", "BMP"):
        content = encoded(Image.fromarray(COLORS), kind)
        for place in range(len(content)):
            damaged = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
            try:
                with strict(), decoding():
                    pixels(damaged)
            except Undecodable:
                pass


def test_a_file_that_is_not_there_is_named_by_its_reason(tmp_path: Path) -> None:
    with pytest.raises(Undecodable, match="No such file"), strict(), decoding():
        pixels(tmp_path / "absent")
