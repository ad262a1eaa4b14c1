"""Images in memory: arrays of a split, and their batches on a device, augmented as they are drawn."""

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.config import Augment
from trainables.data.augment import change, cover

PART = 256
"""Images at a time, where their pixels take more bytes on the way to a result."""


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8 and labels (N,) int64."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "ImageSet":
        """Returns the images at these places, with their labels."""
        return ImageSet(self.images[index], self.labels[index])

    def constants(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and standard deviation of each channel, for pixels in 0..1, to four decimals.

        A channel that is the same everywhere has no spread to divide by: its standard deviation is given as 1.
        """
        mean, std = [], []
        for channel in range(self.images.shape[1]):
            counts = np.zeros(256, np.int64)
            for start in range(0, len(self), PART):
                counts += np.bincount(self.images[start : start + PART, channel].ravel(), minlength=256)
            levels = range(256)
            # Whole numbers, so that no processor finds another sum.
            n, total, squares = (
                sum(int(c) * x**power for c, x in zip(counts, levels, strict=True)) for power in range(3)
            )
            mean.append(round(total / (255 * n), 4))
            std.append(round(math.sqrt(n * squares - total**2) / (255 * n), 4) or 1.0)
        return tuple(mean), tuple(std)

    def __len__(self) -> int:
        return len(self.labels)


class Images:
    """One split on a device: uint8 images, normalized when a batch is drawn."""

    def __init__(self, images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        # A copy: arrays shared between processes are read-only, which torch tensors cannot express.
        self.pixels = torch.from_numpy(images.images.copy()).to(device)
        self.labels = torch.from_numpy(images.labels.copy()).to(device)
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=device).view(1, -1, 1, 1) * 255)

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Returns pixels (B, C, H, W) uint8 as float32 of zero mean and unit variance, channels last."""
        return ((pixels.float() - self._mean) * self._scale).contiguous(memory_format=torch.channels_last)

    def batch_count(self, size: int) -> int:
        """Returns how many batches of about equal size, at most `size`, the images make.

        No batch holds a single image, since batch norm needs two: then one batch has one image more than `size`.
        """
        return max(1, min(-(-len(self) // size), len(self) // 2))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images in order, without augmentation: (B, C, H, W) float32 and labels (B,) int64."""
        count = self.batch_count(size)
        for pixels, labels in zip(self.pixels.tensor_split(count), self.labels.tensor_split(count), strict=True):
            yield self.normalized(pixels), labels

    def shuffled(self, size: int, augment: Augment, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields every image once, in random order and augmented: (B, C, H, W) float32 and labels (B,) int64."""
        order = torch.randperm(len(self), generator=generator).to(self.labels.device, non_blocking=True)
        for place in order.tensor_split(self.batch_count(size)):
            pixels = self.normalized(change(self.pixels[place], augment, generator))
            yield cover(pixels, augment, generator), self.labels[place]

    def sample(self, count: int, seed: int) -> "Images":
        """Returns a seeded random subset, for calibration and for measuring batch norm again."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        place, part = order[:count].to(self.labels.device), copy(self)
        part.pixels, part.labels = self.pixels[place], self.labels[place]
        return part

    def split(self, count: int) -> tuple["Images", "Images"]:
        """Returns the first `count` images, and the others."""
        first, rest = copy(self), copy(self)
        first.pixels, rest.pixels = self.pixels[:count], self.pixels[count:]
        first.labels, rest.labels = self.labels[:count], self.labels[count:]
        return first, rest
