"""Random changes of training images, a batch at a time; every draw follows the generator that is passed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import Augment, ColorJitter
from trainables.data.augmentation import color_jitter
from trainables.data.augmentation.policies import POLICIES
from trainables.errors import ConfigError

JITTERS = (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.0))
"""The functions of `color_jitter` and fields of ColorJitter, each with the factor that changes nothing."""


@dataclass(frozen=True)
class Draw:
    """A source of random numbers, one for each image of a batch.

    They are drawn on the CPU: equal on every device, and no draw waits until a GPU has done what came before.
    """

    count: int
    generator: torch.Generator
    device: torch.device

    def below(self, high: int) -> Tensor:
        """Draws whole numbers from 0 to high − 1, (B,)."""
        return torch.randint(high, (self.count, 1), generator=self.generator).to(self.device, non_blocking=True)[:, 0]

    def uniform(self, low: float, high: float) -> Tensor:
        """Draws float32 numbers from [low, high), (B,)."""
        return low + (high - low) * torch.rand(self.count, generator=self.generator).to(self.device, non_blocking=True)


def check_channels(augment: Augment, channels: int) -> None:
    """Raises ConfigError, with field and way out, for changes that images with this many channels cannot take."""
    jitter = augment.color_jitter
    if (jitter.saturation or jitter.hue) and channels != 3:
        raise ConfigError(
            f"data.augment.color_jitter: saturation and hue need 3 channels, but the images have {channels}: "
            "leave both out."
        )
    if augment.auto != "none" and channels not in (1, 3):
        raise ConfigError(
            f"data.augment.auto: {augment.auto} needs 1 or 3 channels, but the images have {channels}: set it to none."
        )


def change(pixels: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Returns a batch (B, C, H, W) uint8 after crops, flip, rotation, policy and color jitter; its input stays."""
    draw = Draw(len(pixels), generator, pixels.device)
    if augment.resized_crop < 1:
        pixels = _resized_crop(pixels, augment.resized_crop, draw)
    if augment.crop_padding:
        pixels = _cropped(pixels, augment, draw)
    if augment.flip:
        pixels = torch.where(draw.below(2).bool().view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    if augment.rotation_degrees:
        pixels = rotated(pixels, draw.uniform(-augment.rotation_degrees, augment.rotation_degrees))
    if augment.auto != "none":
        pixels = POLICIES[augment.auto](pixels, generator)
    if augment.color_jitter != ColorJitter():
        pixels = _jittered(pixels, augment.color_jitter, draw)
    return pixels


def cover(batch: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Covers parts of a normalized batch (B, C, H, W) with 0, the mean of its images.

    Cutout is that of DeVries and Taylor (arXiv 1708.04552), random erasing that of Zhong et al. (arXiv 1708.04896).
    """
    draw = Draw(len(batch), generator, batch.device)
    if augment.cutout:
        batch = batch * ~_cutout(batch.shape[-2:], augment.cutout, draw)
    if augment.erasing:
        batch = batch * ~_rectangle(batch.shape[-2:], augment.erasing, draw)
    return batch


def rotated(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Turns each image (B, C, H, W) about its center, counter-clockwise; nearest pixel, black corners."""
    turn = torch.deg2rad(degrees)
    cos, sin, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    tall = pixels.shape[-2] / pixels.shape[-1]  # coordinates count halves of each side
    matrix = torch.stack((cos, -sin * tall, zero, sin / tall, cos, zero), dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _resized_crop(pixels: Tensor, smallest: float, draw: Draw) -> Tensor:
    """Cuts a rectangle from each image and scales it, bilinearly, to the image's own size.

    It has from `smallest` to all of the area and an aspect ratio from 3/4 to 4/3, as in Szegedy et al.
    (arXiv 1409.4842); a side that would be longer than the image's is as long.
    """
    area, ratio = draw.uniform(smallest, 1), draw.uniform(math.log(3 / 4), math.log(4 / 3)).exp()
    width, height = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
    # In halves of the image's side from its center, which the rectangle's center may leave by what is left of them.
    x, y = ((1 - side) * draw.uniform(-1, 1) for side in (width, height))
    zero = torch.zeros_like(x)
    matrix = torch.stack((width, zero, x, zero, height, y), dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.round().clamp(0, 255).to(torch.uint8)


def _cropped(pixels: Tensor, augment: Augment, draw: Draw) -> Tensor:
    """Cuts a window of the image's own size from anywhere in the padded image."""
    padding, sides = augment.crop_padding, pixels.shape[-2:]
    rows, columns = (draw.below(2 * padding + 1)[:, None] + torch.arange(side, device=pixels.device) for side in sides)
    if augment.crop_mode == "zero":
        pixels = F.pad(pixels, [padding] * 4)
    else:  # padding of uint8 by reflection is not in torch; reading at reflected places is the same
        rows, columns = (
            (side - 1) - ((side - 1) - (at - padding).abs()).abs()
            for at, side in zip((rows, columns), sides, strict=True)
        )
    each = torch.arange(len(pixels), device=pixels.device).view(-1, 1, 1)
    return pixels[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _jittered(pixels: Tensor, jitter: ColorJitter, draw: Draw) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in an order drawn once for the batch."""
    images = pixels.float() / 255
    for i in torch.randperm(len(JITTERS), generator=draw.generator).tolist():
        name, unchanged = JITTERS[i]
        if strength := getattr(jitter, name):
            factor = draw.uniform(unchanged - strength, unchanged + strength)
            images = getattr(color_jitter, name)(images, factor)
    return (images * 255).round().to(torch.uint8)


def _cutout(size: Sequence[int], side: int, draw: Draw) -> Tensor:
    """Returns the mask (B, 1, H, W) of a square whose center lies anywhere in the image."""
    top, left = (draw.below(whole) - side // 2 for whole in size)
    whole = torch.full_like(top, side)
    return _box(size, top, left, whole, whole)


def _rectangle(size: Sequence[int], probability: float, draw: Draw) -> Tensor:
    """Returns the mask (B, 1, H, W) of a rectangle inside the image, for this share of the images.

    It has 2 to 33 % of the area and an aspect ratio from 0.3 to 3.3, which are the paper's values.
    """
    chosen = draw.uniform(0, 1) < probability
    area = math.prod(size) * draw.uniform(0.02, 0.33)
    ratio = draw.uniform(math.log(0.3), math.log(3.3)).exp()
    areas = (area * ratio, area / ratio)
    height, width = (one.sqrt().round().clamp(max=whole) for one, whole in zip(areas, size, strict=True))
    tops = zip((height, width), size, strict=True)
    top, left = ((draw.uniform(0, 1) * (whole - side + 1)).floor() for side, whole in tops)
    return _box(size, top, left, height, width) & chosen.view(-1, 1, 1, 1)


def _box(size: Sequence[int], top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Returns the mask (B, 1, H, W) of a rectangle in each image; what lies outside the image is left away."""
    rows, columns = (
        torch.arange(whole, device=top.device) - first[:, None] for whole, first in zip(size, (top, left), strict=True)
    )
    in_rows, in_columns = (rows >= 0) & (rows < height[:, None]), (columns >= 0) & (columns < width[:, None])
    return in_rows[:, None, :, None] & in_columns[:, None, None, :]
