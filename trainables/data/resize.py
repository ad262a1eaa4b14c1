"""Images in another size: bilinear with antialiasing, each value rounded alike on every processor.

A fingerprint names a data set by the bytes of its images, so these must not depend on where they were made. torch
rounds the same sums once or twice for each term, as the processor allows, and pixels half way between two levels then
fall to either side. Here it is once, as in torch on most processors of today: bytes and fingerprints are theirs.
"""

import numpy as np

IMAGES = 1_024
"""At a time: of CIFAR's size they take 0.1 GB on the way to 64x64."""


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """(N, C, H, W) uint8 as (N, C, size, size) uint8; a change to a smaller size averages over what it leaves out."""
    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for start in range(0, len(images), IMAGES):
        part = images[start : start + IMAGES].astype(np.float32)
        columns = _along_first(np.moveaxis(part, -1, 0), size)  # (size, N, C, H): rows of old pixels lie together
        rows = _along_first(np.moveaxis(columns, -1, 0), size)  # (size, size, N, C), by y and x
        out[start : start + IMAGES] = np.rint(rows).clip(0, 255).transpose(2, 3, 0, 1)
    return out


def _along_first(values: np.ndarray, size: int) -> np.ndarray:
    """The first dimension in another size; float32."""
    values = np.ascontiguousarray(values)
    out = np.empty((size, *values.shape[1:]), np.float32)
    for place, (first, weights) in enumerate(_shares(len(values), size)):
        found = values[first] * weights[0]
        for old, weight in zip(values[first + 1 :], weights[1:], strict=False):
            # The product of two float32 numbers is exact in float64: the sum alone is rounded.
            found = (found + old.astype(np.float64) * float(weight)).astype(np.float32)
        out[place] = found
    return out


def _shares(length: int, size: int) -> list[tuple[int, np.ndarray]]:
    """Returns for each new pixel the first of the old ones in it, and their shares: a hat over its center, float32."""
    one, half = np.float32(1), np.float32(0.5)
    scale = np.float32(length) / np.float32(size)
    reach = max(scale, one)
    shares = []
    for place in range(size):
        center = scale * (np.float32(place) + half)
        first, end = max(int(center - reach + half), 0), min(int(center + reach + half), length)
        distances = np.abs((np.arange(first, end, dtype=np.float32) - center + half) * (one / reach))
        hat = (one - distances).clip(min=0)
        shares.append((first, hat / np.cumsum(hat)[-1]))
    return shares
