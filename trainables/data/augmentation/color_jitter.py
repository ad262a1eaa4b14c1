"""Color changes of image batches (B, C, S, S) float32 in 0..1, with one `factor` (B,) for each image.

The factors are those of torchvision's functions: 1 changes nothing, 0 takes the property away.
"""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Mixes each image with black, which factor 0 gives."""
    return _mixed(images, torch.zeros_like(images), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Mixes each image with its mean gray, which factor 0 gives."""
    return _mixed(images, _gray(images).mean(dim=(2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Mixes each image of three channels with its gray image, which factor 0 gives."""
    return _mixed(images, _gray(images), factor)


def hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turns the hue of images of three channels by this share of the color circle, in HSV; 0 changes nothing."""
    value, low = images.amax(1), images.amin(1)
    spread = value - low
    turned = (_sixths(images, value, spread) + 6 * factor.view(-1, 1, 1)) % 6
    # HSV back to RGB without cases: red, green and blue are the same function of the hue, shifted.
    shifted = (torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1) + turned[:, None]) % 6
    return value[:, None] - spread[:, None] * torch.minimum(shifted, 4 - shifted).clamp(0, 1)


def _sixths(images: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Returns the hue (B, S, S) in sixths of the color circle; 0 for gray pixels, which have none."""
    red, green, blue = images.unbind(1)
    safe = torch.where(spread == 0, 1.0, spread)
    of_red, of_green, of_blue = (green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe
    return torch.where(value == red, of_red, torch.where(value == green, of_green, of_blue))


def _gray(images: Tensor) -> Tensor:
    """Returns the gray images, (B, C, S, S) → (B, 1, S, S)."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _mixed(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = factor.view(-1, 1, 1, 1)
    return (share * images + (1 - share) * other).clamp(0, 1)
