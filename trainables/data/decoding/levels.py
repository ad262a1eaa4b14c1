"""Levels: the pixels of images as whole numbers from 0 to 255, which is what every network here takes."""

import numpy as np

from trainables.errors import ConfigError


def levels(images: np.ndarray, what: str) -> np.ndarray:
    """Returns images of 8 or 16 bits as uint8: of uint16, 0 stays, 65,535 becomes 255, the others are rounded.

    Raises:
        ConfigError: they are of another type; it says how to convert them. `what` names them.
    """
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.uint16:
        out = np.empty(images.shape, np.uint8)
        for place, image in enumerate(images):
            out[place] = (image.astype(np.uint32) + 128) // 257
        return out
    raise ConfigError(f"{what} are {images.dtype}, but pixels must be uint8 or uint16: {_way_out(images)}.")


def _way_out(images: np.ndarray) -> str:
    """Says the conversion that fits these values."""
    if images.dtype.kind not in "biuf" or images.size == 0:
        return "save them as numbers from 0 to 255"
    if images.dtype == np.bool_:
        return "save (images * 255).astype(numpy.uint8)"
    low, high = images.min(), images.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"they hold values from {low} to {high}; mend those, and save numbers from 0 to 255"
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        return "save (images * 255).round().astype(numpy.uint8)"
    if low >= 0 and high <= 255:
        return (
            "save images.round().astype(numpy.uint8)" if images.dtype.kind == "f" else "save images.astype(numpy.uint8)"
        )
    if low >= 0 and high <= 65_535 and images.dtype.kind in "iu":
        return "save images.astype(numpy.uint16)"
    if images.dtype.kind == "f" and low >= -1 and high <= 1:
        return "save ((images + 1) * 127.5).round().astype(numpy.uint8)"
    return (
        f"they lie in {low:g}..{high:g}; where they were normalized, undo that: "
        "save ((images * std + mean) * 255).round().clip(0, 255).astype(numpy.uint8)"
    )
