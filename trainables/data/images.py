"""The images of a split, and their batches on a device, augmented as they are drawn."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.config import Augment
from trainables.data.augmentation.augment import change, cover
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.device_pixels import batches_of, on_device

PART = 256
"""Images at a time, where their pixels take more bytes on the way to a result."""


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8, in memory or mapped from files, and labels (N,) int64."""

    images: np.ndarray | MappedPixels
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "ImageSet":
        """Returns the images at these places, with their labels; of images in files, nothing is read."""
        images = self.images.take(index) if isinstance(self.images, MappedPixels) else self.images[index]
        return ImageSet(images, self.labels[index])

    def in_memory(self) -> "ImageSet":
        """Returns the same images, read from their files if they are in some."""
        return ImageSet(self.images.whole(), self.labels) if isinstance(self.images, MappedPixels) else self

    def parts(self) -> Iterator[np.ndarray]:
        """Yields all images in order, some at a time."""
        if isinstance(self.images, MappedPixels):
            yield from self.images.parts()
            return
        for start in range(0, len(self), PART):
            yield self.images[start : start + PART]

    def __len__(self) -> int:
        return len(self.labels)


def pixel_constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the mean of pixels from 0 to 255, and what their differences to it are multiplied with: (1, C, 1, 1)."""
    center = torch.tensor(mean, device=device).view(1, -1, 1, 1) * 255
    return center, 1 / (torch.tensor(std, device=device).view(1, -1, 1, 1) * 255)


def normalized(pixels: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Returns pixels (B, C, H, W) as float32, channels last, normalized by their `pixel_constants`."""
    return ((pixels.float() - mean) * scale).contiguous(memory_format=torch.channels_last)


class Images:
    """One split on a device: uint8 images, normalized when a batch is drawn.

    Images that are mapped from files go to a device that has `room_bytes` for them; else each batch does, a few ahead.
    """

    def __init__(
        self,
        images: ImageSet,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        *,
        room_bytes: int = 0,
    ) -> None:
        self.pixels = on_device(images.images, device, room_bytes)
        self.labels = torch.from_numpy(images.labels.copy()).to(device)
        self._mean, self._scale = pixel_constants(mean, std, device)

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Returns pixels (B, C, H, W) uint8 as float32 of zero mean and unit variance, channels last."""
        return normalized(pixels, self._mean, self._scale)

    def batch_count(self, size: int) -> int:
        """Returns how many batches of about equal size, at most `size`, the images make.

        No batch holds a single image, since batch norm needs two: then one batch has one image more than `size`.
        """
        return max(1, min(-(-len(self) // size), len(self) // 2))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images in order, without augmentation: (B, C, H, W) float32 and labels (B,) int64."""
        split = torch.arange(len(self)).tensor_split(self.batch_count(size))
        places = [slice(int(part[0]), int(part[-1]) + 1) for part in split]
        for place, pixels in zip(places, batches_of(self.pixels, places), strict=True):
            yield self.normalized(pixels), self.labels[place]

    def shuffled(self, size: int, augment: Augment, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields every image once, in random order and augmented: (B, C, H, W) float32 and labels (B,) int64."""
        order = torch.randperm(len(self), generator=generator)
        places = order.to(self.labels.device, non_blocking=True).tensor_split(self.batch_count(size))
        for place, drawn in zip(places, batches_of(self.pixels, places), strict=True):
            pixels = self.normalized(change(drawn, augment, generator))
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
