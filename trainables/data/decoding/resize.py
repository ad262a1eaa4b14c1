"""Images in another size: bilinear with antialiasing, each value rounded alike on every processor.

A fingerprint names a data set by the bytes of its images, so these must not depend on where they were made. torch
rounds the same sums once or twice for each term, as the processor allows, and pixels half way between two levels then
fall to either side. Here it is once, as in torch on most processors of today: bytes and fingerprints are theirs.
"""

import functools
from fractions import Fraction

import numpy as np

IMAGES = 64
"""At a time: of CIFAR's size they stay in a processor's cache on the way to 64x64."""
SIZES = 256
"""Sides whose shares are kept, some 16 KB each: photographs have few sizes, and the shares take as long as the sums."""


def fitted(images: np.ndarray, size: tuple[int, int], *, crop: float = 1.0) -> np.ndarray:
    """Returns images (N, C, H, W) uint8 at a height and width: (N, C, *size) uint8.

    They are scaled by one factor for both sides, the smallest that covers the size, and what is beyond it is cut off,
    half at either end. With a `crop` below 1, they are scaled to cover the size divided by it, so that more is cut off.
    A change to a smaller size averages over what it leaves out.
    """
    here = (images.shape[2], images.shape[3])
    covered = [round(new / crop) for new in size]
    if here == size == tuple(covered):
        return images
    factor = max(Fraction(new, old) for new, old in zip(covered, here, strict=True))
    whole = [int(old * factor) for old in here]
    rows, columns = (
        _shares(old, scaled, round((scaled - new) / 2), new) for old, scaled, new in zip(here, whole, size, strict=True)
    )
    out = np.empty((*images.shape[:2], *size), np.uint8)
    for start in range(0, len(images), IMAGES):
        part = images[start : start + IMAGES].astype(np.float32)
        across = _along_first(np.moveaxis(part, -1, 0), columns)  # (width, N, C, H): old rows lie together
        both = _along_first(np.moveaxis(across, -1, 0), rows)  # (height, width, N, C)
        out[start : start + IMAGES] = np.rint(both).clip(0, 255).transpose(2, 3, 0, 1)
    return out


def _along_first(values: np.ndarray, shares: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Sums the old values along the first dimension by their shares in each new one; float32."""
    values, (places, weights) = np.ascontiguousarray(values), shares
    each = (..., *[None] * (values.ndim - 1))
    found: np.ndarray = values[places[0]] * weights[0][each]
    for place, weight in zip(places[1:], weights[1:], strict=True):
        # The product of two float32 numbers is exact in float64: the sum alone is rounded.
        found = (found + values[place].astype(np.float64) * weight.astype(np.float64)[each]).astype(np.float32)
    return found


@functools.lru_cache(maxsize=SIZES)
def _shares(length: int, size: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the old pixels that make each of `count` new ones from `start`, and their shares: (K, count) each.

    The shares are a hat over the center of the new pixel, float32, and 0 for places that make up the number K.
    """
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(length) / np.float32(size)
    reach = max(scale, one)
    most = int(2 * reach) + 2
    places, weights = np.zeros((most, count), np.int64), np.zeros((most, count), np.float32)
    for new in range(count):
        center = scale * (np.float32(start + new) + half)
        first, end = max(int(center - reach + half), 0), min(int(center + reach + half), length)
        distances = np.abs((np.arange(first, end, dtype=np.float32) - center + half) * (one / reach))
        hat = (one - distances).clip(min=0)
        places[: end - first, new] = np.arange(first, end)
        weights[: end - first, new] = hat / np.cumsum(hat)[-1]
    used = weights.any(axis=1)
    return places[used], weights[used]
