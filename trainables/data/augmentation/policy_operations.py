"""Single operations of augmentation policies on image batches (B, C, S, S) uint8, each image with its own magnitude.

Pixel for pixel those of torchvision's `transforms.v2` for uint8 tensors: nearest pixel, black outside, fractions cut
off; `addcmul` rounds once, as its sums do. Half way between two pixels either is read, as a last bit falls on each
processor. `magnitude` (B,) float32 is on the device of the pixels. A magnitude of 0 changes nothing in operations that
have a sign; that of `color_jitter`, for the same names, is 1 more.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.augmentation.color_jitter import LUMA


def identity(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Returns the images as they are."""
    return pixels


def shear_x(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves the rows of each image sideways by this share of their distance from the top."""
    return _warped(pixels, ((1.0, magnitude, magnitude * (pixels.shape[-1] / 2)), (0.0, 1.0, 0.0)))


def shear_y(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves the columns of each image up or down by this share of their distance from the left."""
    return _warped(pixels, ((1.0, 0.0, 0.0), (magnitude, 1.0, magnitude * (pixels.shape[-1] / 2))))


def translate_x(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image to the right by whole pixels; the fraction is left away."""
    return _warped(pixels, ((1.0, 0.0, -magnitude.trunc()), (0.0, 1.0, 0.0)))


def translate_y(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image down by whole pixels; the fraction is left away."""
    return _warped(pixels, ((1.0, 0.0, 0.0), (0.0, 1.0, -magnitude.trunc())))


def rotate(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Turns each image about its center by degrees, counter-clockwise."""
    turn = magnitude.double().deg2rad()
    cos, sin = turn.cos().float(), turn.sin().float()
    return _warped(pixels, ((cos, -sin, 0.0), (sin, cos, 0.0)))


def brightness(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image away from black; −1 gives black."""
    return _levels(pixels * _each(1 + magnitude))


def color(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image away from its gray image; one of a single channel stays as it is."""
    return pixels if pixels.shape[1] == 1 else _mixed(pixels, _gray(pixels), magnitude)


def contrast(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image away from the mean of its gray image."""
    return _mixed(pixels, _gray(pixels).mean(dim=(1, 2, 3), keepdim=True), magnitude)


def sharpness(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Moves each image away from itself smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the outermost pixels stay."""
    images = pixels.float()
    inner = images[..., 1:-1, 1:-1]
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    # Whole numbers up to the division, and thirteenths are never half way: the same on every device.
    smooth = ((around + 4 * inner) / 13).round_()
    inner.addcmul_(smooth - inner, _each(-magnitude))
    return _levels(images)


def posterize(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Keeps this many of the upper bits of each value, and sets the lower ones to 0."""
    return pixels & _each(torch.bitwise_left_shift(255, 8 - magnitude.int())).to(torch.uint8)


def solarize(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Inverts the values that are at least this share of white."""
    bright = pixels >= _each((255 * magnitude).ceil().to(torch.uint8))
    return pixels ^ (bright.to(torch.uint8) * 255)


def auto_contrast(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Stretches each channel to the whole range from black to white; a channel of one level stays as it is."""
    images = pixels.float()
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _levels((images - torch.where(flat, 0.0, low)) / scale)


def equalize(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Spreads the levels of each channel until all are about equally frequent, by Pillow's rule."""
    levels = pixels.flatten(2).long()
    counts = torch.zeros((*levels.shape[:2], 256), dtype=torch.int32, device=pixels.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=torch.int32))
    below = counts.cumsum(2, dtype=torch.int32) - counts
    highest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - highest) // 255
    spread = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step == 0, torch.arange(256, device=pixels.device), spread).to(torch.uint8)
    return table.gather(2, levels).view_as(pixels)


def invert(pixels: Tensor, magnitude: Tensor) -> Tensor:
    """Returns the negatives of the images."""
    return ~pixels


OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    *(identity, shear_x, shear_y, translate_x, translate_y, rotate, brightness, color, contrast, sharpness),
    *(posterize, solarize, auto_contrast, equalize, invert),
)
"""All operations, each at the place of its number."""


def apply(pixels: Tensor, kinds: Tensor, magnitudes: Tensor) -> Tensor:
    """Changes each image by its own operation; numbers (B,) int64 and magnitudes (B,) float32 are on the CPU.

    The images of an operation lie side by side meanwhile. How many there are is known on the CPU, so that nothing
    waits for the device.
    """
    order = kinds.argsort(stable=True)
    counts = kinds.bincount(minlength=len(OPERATIONS)).tolist()
    place, back, magnitude = (
        x.to(pixels.device, non_blocking=True) for x in (order, order.argsort(), magnitudes[order])
    )
    groups = zip(
        OPERATIONS, pixels.contiguous().index_select(0, place).split(counts), magnitude.split(counts), strict=True
    )
    return torch.cat([change(part, its) for change, part, its in groups if len(part)]).index_select(0, back)


Row = tuple[Tensor | float, Tensor | float, Tensor | float]


def _warped(pixels: Tensor, rows: tuple[Row, Row]) -> Tensor:
    """Reads each pixel (x, y) where the two rows lead: a · x + b · y + c, in pixels from the center."""
    size = pixels.shape[-1]
    steps = torch.linspace((1 - size) / 2, (size - 1) / 2, size, device=pixels.device)
    grid = torch.stack([_coordinate(row, steps, len(pixels)) for row in rows], dim=-1)
    return F.grid_sample(pixels.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)


def _coordinate(row: Row, steps: Tensor, count: int) -> Tensor:
    """Returns where a row leads, (B, S, S), in halves of the image's side."""
    half = len(steps) / 2
    a, b, c = (_share(entry, half, steps, count) for entry in row)
    return torch.addcmul(steps * a, steps[:, None], b) + c


def _share(entry: Tensor | float, half: float, steps: Tensor, count: int) -> Tensor:
    whole = entry if isinstance(entry, Tensor) else steps.new_full((count,), entry)
    return (whole / half).view(-1, 1, 1)


def _mixed(pixels: Tensor, other: Tensor, magnitude: Tensor) -> Tensor:
    return _levels(torch.addcmul(pixels * _each(1 + magnitude), other.expand(pixels.shape), _each(-magnitude)))


def _gray(pixels: Tensor) -> Tensor:
    """Returns the gray images, (B, C, S, S) → (B, 1, S, S) float32 of whole numbers."""
    if pixels.shape[1] == 1:
        return pixels.float()
    red, green, blue = pixels.split(1, dim=1)
    gray: Tensor = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return gray.floor_()


def _levels(images: Tensor) -> Tensor:
    return images.clamp(0, 255).to(torch.uint8)


def _each(magnitude: Tensor) -> Tensor:
    return magnitude.view(-1, 1, 1, 1)
