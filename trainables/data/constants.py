"""Constants of a data set: mean and standard deviation of each channel, from counts that no processor rounds."""

import math

import numpy as np


def level_counts(pixels: np.ndarray, *, missing: int = 0) -> np.ndarray:
    """Counts how many pixels of images (N, C, H, W) uint8 have each value: (C, 256) int64.

    So many `missing` images are left out, whose pixels are all 0.
    """
    found = np.zeros((pixels.shape[1], 256), np.int64)
    for image in pixels:
        for channel, values in enumerate(image):
            found[channel] += np.bincount(values.ravel(), minlength=256)
    found[:, 0] -= missing * int(np.prod(pixels.shape[2:]))
    return found


def constants(counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, for pixels in 0..1, to four decimals.

    `counts` (C, 256) says how many pixels have each value. A channel that is the same everywhere has no spread to
    divide by: its standard deviation is given as 1.
    """
    mean, std = [], []
    for levels in counts.tolist():
        # Whole numbers, so that no processor finds another sum.
        n, total, squares = (sum(count * x**power for x, count in enumerate(levels)) for power in range(3))
        mean.append(round(total / (255 * n), 4))
        std.append(round(math.sqrt(n * squares - total**2) / (255 * n), 4) or 1.0)
    return tuple(mean), tuple(std)
