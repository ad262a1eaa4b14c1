"""Color of image batches (B, C, S, S) float32 in 0..1; `by` (B,) holds one number for each image."""

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""


def brightness(images: Tensor, by: Tensor) -> Tensor:
    """Mixes with black; 1 changes nothing."""
    return _mixed(images, torch.zeros_like(images), by)


def contrast(images: Tensor, by: Tensor) -> Tensor:
    """Mixes with the mean gray of the image."""
    return _mixed(images, _gray(images).mean(dim=(2, 3), keepdim=True), by)


def saturation(images: Tensor, by: Tensor) -> Tensor:
    """Mixes with the gray image; three channels."""
    return _mixed(images, _gray(images), by)


def hue(images: Tensor, by: Tensor) -> Tensor:
    """Turns the hue by this share of the color circle, in HSV; three channels."""
    value, low = images.amax(1), images.amin(1)
    spread = value - low
    turned = (_sixths(images, value, spread) + 6 * by.view(-1, 1, 1)) % 6
    # HSV back to RGB without cases: red, green and blue are the same function of the hue, shifted.
    shifted = (torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1) + turned[:, None]) % 6
    return value[:, None] - spread[:, None] * torch.minimum(shifted, 4 - shifted).clamp(0, 1)


def _sixths(images: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """The hue (B, S, S) in sixths of the circle; 0 where there is none."""
    red, green, blue = images.unbind(1)
    safe = torch.where(spread == 0, 1.0, spread)
    of_red, of_green, of_blue = (green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe
    return torch.where(value == red, of_red, torch.where(value == green, of_green, of_blue))


def _gray(images: Tensor) -> Tensor:
    """(B, C, S, S) → (B, 1, S, S)."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _mixed(images: Tensor, other: Tensor, by: Tensor) -> Tensor:
    share = by.view(-1, 1, 1, 1)
    return (share * images + (1 - share) * other).clamp(0, 1)
