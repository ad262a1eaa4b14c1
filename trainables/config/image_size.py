"""Image size: the height and width of what a network takes (torch-free)."""

from typing import Annotated

from pydantic import AfterValidator, Field

Side = Annotated[int, Field(ge=8, le=1024)]


def _short(size: int | tuple[int, int]) -> int | tuple[int, int]:
    """Equal sides are one number, so that both spellings name the same results."""
    return size[0] if isinstance(size, tuple) and size[0] == size[1] else size


ImageSize = Annotated[Side | tuple[Side, Side], AfterValidator(_short)]
"""The side of square images, or height and width of others; pixels."""


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns both sides, in pixels."""
    return size if isinstance(size, tuple) else (size, size)


def image_size_of(height: int, width: int) -> int | tuple[int, int]:
    """Returns a size as `ImageSize` spells it: one number where both sides are equal."""
    return _short((height, width))
