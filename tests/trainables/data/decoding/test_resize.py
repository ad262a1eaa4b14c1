import hashlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from trainables.data.decoding import resize
from trainables.data.decoding.resize import fitted

pytestmark = pytest.mark.numeric

CHANGES = [(8, 9), (8, 13), (8, 32), (8, 100), (28, 17), (28, 32), (32, 24), (32, 40), (32, 8), (17, 16)]
DIGEST = "fed77a5c106dd637"
"""Of all images below in all their sizes."""


def draw(length: int, count: int = 20) -> np.ndarray:
    """Noise of all levels, and noise of few, which is half way between two more often."""
    images = np.random.default_rng(length).integers(0, 256, (count, 3, length, length), dtype=np.uint8)
    images[::2] //= 64
    return images


def torchs(images: np.ndarray, size: int) -> np.ndarray:
    floats = torch.from_numpy(images).double()
    scaled = F.interpolate(floats, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return scaled.numpy()


def test_every_processor_finds_the_same_bytes() -> None:
    digest = hashlib.sha256()
    for length, size in CHANGES:
        digest.update(fitted(draw(length), (size, size)).tobytes())
    assert digest.hexdigest()[:16] == DIGEST


@pytest.mark.parametrize(("length", "size"), CHANGES)
def test_a_pixel_is_torchs_rounded(length: int, size: int) -> None:
    """In float64, of which rounding leaves half a level; ties may fall to either side."""
    images = draw(length)
    found = fitted(images, (size, size))
    assert (found.shape, found.dtype) == ((20, 3, size, size), np.uint8)
    assert np.abs(found - torchs(images, size)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(("length", "size"), [(8, 32), (28, 32)])
def test_where_all_shares_are_exact_halves_go_to_the_even_level(length: int, size: int) -> None:
    images = draw(length)
    assert np.array_equal(fitted(images, (size, size)), np.rint(torchs(images, size)))


def test_images_are_changed_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = draw(8)
    whole = fitted(images, (13, 13))
    monkeypatch.setattr(resize, "IMAGES", 7)
    assert np.array_equal(fitted(images, (13, 13)), whole)


@pytest.mark.parametrize(
    ("shape", "size", "crop"), [((300, 400), 112, 0.875), ((64, 48), 56, 0.875), ((32, 32), 32, 0.5)]
)
def test_the_center_is_cut_as_torchvision_cuts_it(shape: tuple[int, int], size: int, crop: float) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, *shape), dtype=np.uint8)
    floats = transforms.resize(torch.from_numpy(images).float(), [round(size / crop)], antialias=True)
    expected = transforms.center_crop(floats, [size, size]).numpy()
    assert np.abs(fitted(images, (size, size), crop=crop) - expected).max() <= 0.5 + 1e-2


def test_sides_may_differ_and_proportions_stay() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 40, 60), dtype=np.uint8)
    assert np.array_equal(fitted(images, (40, 30)), images[..., 15:45])
    assert np.array_equal(fitted(images, (20, 60)), images[..., 10:30, :])
    halves = images.astype(float).reshape(2, 1, 20, 2, 30, 2).mean(axis=(3, 5))
    assert np.abs(fitted(images, (20, 30)).mean() - halves.mean()) < 0.5
