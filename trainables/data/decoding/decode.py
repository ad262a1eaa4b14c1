"""Decode: one image file as pixels, whatever its format, mode and orientation."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from trainables.data.decoding.levels import levels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
"""Pillow's readers of these formats run; its others are not asked, whatever a file is called."""
GRAY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of Pillow that have no colors."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by the orientation in its EXIF data."""


class Undecodable(Exception):
    """A file holds no image that can be read; the message says why, in a few words."""


@contextmanager
def strict() -> Iterator[None]:
    """Lets Pillow refuse an image that is too large to be safe; one such context is for all threads of a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # of metadata, which are not read
        yield


@contextmanager
def decoding() -> Iterator[None]:
    """Raises what goes wrong with an image inside as Undecodable: truncated, no image, or too large to be safe."""
    try:
        yield
    except UnidentifiedImageError as err:
        raise Undecodable(f"it is no image in any of the formats {', '.join(FORMATS)}") from err
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise Undecodable(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from err
    except OSError as err:
        raise Undecodable(err.strerror or str(err)) from err
    except MemoryError:
        raise
    except Exception as err:  # whatever Pillow trips over in a damaged file
        raise Undecodable(" ".join(str(err).split()) or type(err).__name__) from err


def pixels(file: Path | bytes | Image.Image, channels: int | None = None) -> np.ndarray:
    """Returns an image as (C, H, W) uint8, turned upright as its EXIF data say, on white where it is transparent.

    `file` is a path, an encoded image, or one that Pillow has opened. C is `channels`: 1 makes colors gray, 3 repeats
    gray ones. Without it, C is 1 for an image without colors and 3 for others. Of 16 bits, the upper ones count.

    Raises:
        Undecodable: the pixels have 32 bits. Within `decoding` and `strict`, also whatever else a file may lack.
    """
    image = _opened(file)
    channels = channels or channels_of(image)
    image = _upright(image)
    if image.mode in ("I", "F"):
        raise Undecodable("it has 32 bits a pixel: save it with 8 or 16")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(levels(np.asarray(image).astype(np.uint16), "pixels"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    values = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """Returns an image as its EXIF data say that it is seen, or as it lies there where they are damaged."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow trips over entries of many kinds, and the pixels may be intact
        return image
    return image if turn is None else image.transpose(turn)


def channels_of(file: Path | bytes | Image.Image) -> int:
    """Returns the channels that `pixels` gives an image by itself, 1 or 3; it is not decoded."""
    return 1 if _opened(file).mode in GRAY else 3


def size_of(file: Path | bytes | Image.Image) -> tuple[int, int]:
    """Returns the width and height of an image as it lies there; it is not decoded."""
    return _opened(file).size


def _opened(file: Path | bytes | Image.Image) -> Image.Image:
    if isinstance(file, Image.Image):
        return file
    return Image.open(io.BytesIO(file.read_bytes() if isinstance(file, Path) else file), formats=FORMATS)
