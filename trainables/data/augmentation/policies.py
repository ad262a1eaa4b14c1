"""Policies of augmentation: which operation each image gets, and how much of it; every image has its own draw.

AutoAugment's policy for CIFAR-10 (Cubuk et al., arXiv 1805.09501) and TrivialAugment Wide (Müller and Hutter, arXiv
2103.10158), both with torchvision's magnitudes. One CPU core changes 60,000 and 88,000 images/s (32x32, batches of
512), where torchvision changes 25,000 and 33,000 with one draw for every four.
"""

import torch
from torch import Tensor

from trainables.data.augmentation import policy_operations
from trainables.data.augmentation.policy_operations import OPERATIONS

Space = dict[str, tuple[float, float]]
"""Magnitudes of operations at the lowest and at the highest level, the others evenly between; (0, 0): none is read."""

SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness")
"""Operations whose magnitude is negative for half of the images."""

TRIVIAL: Space = {
    "identity": (0, 0),
    **dict.fromkeys(("shear_x", "shear_y"), (0, 0.99)),
    **dict.fromkeys(("translate_x", "translate_y"), (0, 32)),
    "rotate": (0, 135),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0, 0.99)),
    "posterize": (8, 2),
    "solarize": (1, 0),
    **dict.fromkeys(("auto_contrast", "equalize"), (0, 0)),
}
TRIVIAL_LEVELS = 31
"""Levels of TrivialAugment, as in its paper."""

AUTO: Space = {
    **dict.fromkeys(("shear_x", "shear_y"), (0, 0.3)),
    **dict.fromkeys(("translate_x", "translate_y"), (0, 150 / 331)),  # shares of the image's side
    "rotate": (0, 30),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0, 0.9)),
    "posterize": (8, 4),
    "solarize": (1, 0),
    **dict.fromkeys(("auto_contrast", "equalize", "invert"), (0, 0)),
}
AUTO_LEVELS = 10
"""Levels of AutoAugment, as in its paper."""

Step = tuple[str, float, int]
"""The name of an operation, its probability and its level."""

AUTO_CIFAR10: tuple[tuple[Step, Step], ...] = (
    *((("invert", 0.1, 0), ("contrast", 0.2, 6)), (("rotate", 0.7, 2), ("translate_x", 0.3, 9))),
    *((("sharpness", 0.8, 1), ("sharpness", 0.9, 3)), (("shear_y", 0.5, 8), ("translate_y", 0.7, 9))),
    *((("auto_contrast", 0.5, 0), ("equalize", 0.9, 0)), (("shear_y", 0.2, 7), ("posterize", 0.3, 7))),
    *((("color", 0.4, 3), ("brightness", 0.6, 7)), (("sharpness", 0.3, 9), ("brightness", 0.7, 9))),
    *((("equalize", 0.6, 0), ("equalize", 0.5, 0)), (("contrast", 0.6, 7), ("sharpness", 0.6, 5))),
    *((("color", 0.7, 7), ("translate_x", 0.5, 8)), (("equalize", 0.3, 0), ("auto_contrast", 0.4, 0))),
    *((("translate_y", 0.4, 3), ("sharpness", 0.2, 6)), (("brightness", 0.9, 6), ("color", 0.2, 8))),
    *((("solarize", 0.5, 2), ("invert", 0.0, 0)), (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0))),
    *((("equalize", 0.2, 0), ("equalize", 0.6, 0)), (("color", 0.9, 9), ("equalize", 0.6, 0))),
    *((("auto_contrast", 0.8, 0), ("solarize", 0.2, 8)), (("brightness", 0.1, 3), ("color", 0.7, 0))),
    *((("solarize", 0.4, 5), ("auto_contrast", 0.9, 0)), (("translate_y", 0.9, 9), ("translate_y", 0.7, 9))),
    *((("auto_contrast", 0.9, 0), ("solarize", 0.8, 3)), (("equalize", 0.8, 0), ("invert", 0.1, 0))),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 0)),
)
"""The 25 pairs of operations that AutoAugment found for CIFAR-10, as its paper lists them."""

NUMBERS = {operation.__name__: i for i, operation in enumerate(OPERATIONS)}
"""The number of each operation, by its name."""


def trivial_augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Changes every image (B, C, S, S) uint8 by one operation at one level, each as likely as any other."""
    count = len(pixels)
    kinds = torch.tensor([NUMBERS[name] for name in TRIVIAL])[_below(len(TRIVIAL), count, generator)]
    levels = _below(TRIVIAL_LEVELS, count, generator)
    table = magnitudes(TRIVIAL, TRIVIAL_LEVELS)
    return policy_operations.apply(pixels, kinds, table[kinds, levels] * _signs(kinds, generator))


def auto_augment_cifar10(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Changes every image (B, C, S, S) uint8 by one of the 25 pairs, each operation with its probability."""
    pairs = _below(len(AUTO_CIFAR10), len(pixels), generator)
    table = magnitudes(AUTO, AUTO_LEVELS, size=pixels.shape[-1])
    for steps in zip(*AUTO_CIFAR10, strict=True):
        names, probabilities, levels = zip(*steps, strict=True)
        happens = torch.rand(len(pairs), generator=generator) < torch.tensor(probabilities)[pairs]
        kinds = torch.tensor([NUMBERS[name] for name in names])[pairs] * happens
        magnitude = table[kinds, torch.tensor(levels)[pairs]] * _signs(kinds, generator)
        pixels = policy_operations.apply(pixels, kinds, magnitude)
    return pixels


POLICIES = {"autoaugment_cifar10": auto_augment_cifar10, "trivial": trivial_augment}
"""The policies by their names in a spec."""


def magnitudes(space: Space, levels: int, *, size: int = 1) -> Tensor:
    """Returns the magnitude of each operation at each level, (operations, levels) float32, a row for each number.

    `size` is the side of the images where translations are shares of it.
    """
    table = torch.zeros(len(OPERATIONS), levels)
    for name, (low, high) in space.items():
        scale = size if name.startswith("translate") else 1
        table[NUMBERS[name]] = torch.linspace(low, high * scale, levels)
    bits = NUMBERS["posterize"]
    table[bits] = table[bits].round()
    return table


def _below(high: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(high, (count,), generator=generator)


def _signs(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """Draws −1 for half of the images whose operation has a sign, and 1 for all others, (B,)."""
    signed = torch.tensor([operation.__name__ in SIGNED for operation in OPERATIONS])[kinds]
    return 1 - 2.0 * (signed & (torch.rand(len(kinds), generator=generator) < 0.5))
