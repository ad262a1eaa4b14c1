import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from trainables.data.augmentation.policies import (
    AUTO,
    AUTO_LEVELS,
    NUMBERS,
    SIGNED,
    TRIVIAL,
    TRIVIAL_LEVELS,
    magnitudes,
)
from trainables.data.augmentation.policy_operations import OPERATIONS, apply

pytestmark = pytest.mark.numeric


def affine(image: Tensor, *, x: int = 0, y: int = 0, shear: tuple[float, float] = (0, 0)) -> Tensor:
    degrees = [math.degrees(math.atan(by)) for by in shear]
    return F.affine(image, 0.0, [x, y], 1.0, degrees, center=[0, 0] if any(shear) else None)


THEIRS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, by: image,
    "shear_x": lambda image, by: affine(image, shear=(by, 0)),
    "shear_y": lambda image, by: affine(image, shear=(0, by)),
    "translate_x": lambda image, by: affine(image, x=int(by)),
    "translate_y": lambda image, by: affine(image, y=int(by)),
    "rotate": F.rotate,
    "brightness": lambda image, by: F.adjust_brightness(image, 1 + by),
    "color": lambda image, by: F.adjust_saturation(image, 1 + by),
    "contrast": lambda image, by: F.adjust_contrast(image, 1 + by),
    "sharpness": lambda image, by: F.adjust_sharpness(image, 1 + by),
    "posterize": lambda image, by: F.posterize(image, int(by)),
    "solarize": lambda image, by: F.solarize(image, 255 * by),
    "auto_contrast": lambda image, by: F.autocontrast(image),
    "equalize": lambda image, by: F.equalize(image),
    "invert": lambda image, by: F.invert(image),
}


TURNING = ("shear_x", "shear_y", "rotate")
"""They read between pixels; translations do not, by whole pixels."""
ASIDE = 1e-4
"""Of a magnitude: it moves what is half way between two pixels by more than float32 rounds, and little else."""


def every_magnitude(name: str, size: int) -> Tensor:
    """Those of both policies, with both signs where there are two."""
    tables = (magnitudes(TRIVIAL, TRIVIAL_LEVELS), magnitudes(AUTO, AUTO_LEVELS, size=size))
    found = torch.cat([table[NUMBERS[name]] for table in tables])
    return torch.cat((found, -found)) if name in SIGNED else found


def make_batch(count: int, channels: int, size: int) -> Tensor:
    """Noise of all levels, noise of few, one level, and a slope, by turns."""
    draws = torch.Generator().manual_seed(0)
    batch = torch.randint(256, (count, channels, size, size), generator=draws, dtype=torch.uint8)
    batch[1::4] = batch[1::4] // 8 + 90
    batch[2::4] = batch[2::4, :, :1, :1]
    batch[3::4] = torch.arange(size, dtype=torch.uint8) * (250 // size)
    return batch


def idle_operations(channels: int, size: int) -> set[str]:
    """Saturation of gray images, and levels of images with too few pixels to spread them."""
    return {"identity", *(["color"] if channels == 1 else []), *(["equalize"] if size**2 < 255 else [])}


def test_every_operation_has_an_oracle() -> None:
    assert [operation.__name__ for operation in OPERATIONS] == list(THEIRS)


@pytest.mark.parametrize("size", [8, 9, 32, 33])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_an_operation_is_torchvisions(operation: Callable[[Tensor, Tensor], Tensor], channels: int, size: int) -> None:
    by = every_magnitude(operation.__name__, size)
    batch = make_batch(len(by), channels, size)
    before = batch.clone()

    def theirs(share: float = 1.0) -> Tensor:
        apply_one = THEIRS[operation.__name__]
        return torch.stack([apply_one(image, float(one) * share) for image, one in zip(batch, by, strict=True)])

    found, expected = operation(batch, by), theirs()
    if operation.__name__ in TURNING:
        # Half way between two pixels the last bit decides, and torchvision's depends on the processor: either is right.
        low, high = theirs(1 - ASIDE), theirs(1 + ASIDE)
        tied = low != high
        assert tied.float().mean() < 0.01
        assert ((found == low) | (found == high))[tied].all()
        assert torch.equal(found[~tied], expected[~tied])
    else:
        assert torch.equal(found, expected)
    assert torch.equal(batch, before)
    assert torch.equal(expected, batch) == (operation.__name__ in idle_operations(channels, size))


def test_each_image_of_a_batch_has_its_own_operation() -> None:
    draws = torch.Generator().manual_seed(0)
    kinds = torch.randint(len(OPERATIONS), (60,), generator=draws)
    by = torch.stack([magnitudes(TRIVIAL, TRIVIAL_LEVELS)[kind, i % TRIVIAL_LEVELS] for i, kind in enumerate(kinds)])
    batch = make_batch(60, 3, 32)
    before = batch.clone()
    alone = [OPERATIONS[kind](batch[i : i + 1], by[i : i + 1]) for i, kind in enumerate(kinds)]
    assert torch.equal(apply(batch, kinds, by), torch.cat(alone))
    assert torch.equal(batch, before)
