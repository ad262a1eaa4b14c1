import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from tests.trainables.factories import make_images
from trainables.config import Augment, ColorJitter
from trainables.data.augmentation import color_jitter
from trainables.data.augmentation.augment import change, cover, rotated
from trainables.data.augmentation.policies import POLICIES
from trainables.data.images import Images, ImageSet

NONE = Augment(crop_padding=0)
EACH = {
    "resized crop": {"resized_crop": 0.25},
    "crop": {"crop_padding": 2},
    "reflected crop": {"crop_padding": 2, "crop_mode": "reflect"},
    "flip": {"flip": True},
    "rotation": {"rotation_degrees": 20},
    "autoaugment": {"auto": "autoaugment_cifar10"},
    "trivial": {"auto": "trivial"},
    "brightness": {"color_jitter": {"brightness": 0.4}},
    "contrast": {"color_jitter": {"contrast": 0.4}},
    "saturation": {"color_jitter": {"saturation": 0.4}},
    "hue": {"color_jitter": {"hue": 0.2}},
    "cutout": {"cutout": 3},
    "erasing": {"erasing": 0.5},
}
"""One change at a time."""


def make_augment(name: str) -> Augment:
    return Augment.model_validate({"crop_padding": 0, **EACH[name]})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmented(images: Images, augment: Augment, seed: int = 0) -> torch.Tensor:
    draws = generator(seed)
    return cover(images.normalized(change(images.pixels, augment, draws)), augment, draws)


def test_no_augmentation_is_the_identity() -> None:
    images = make_images()
    assert torch.equal(augmented(images, NONE), images.normalized(images.pixels))


def test_every_field_has_a_case() -> None:
    values = [make_augment(name) for name in EACH]
    assert {f for a in values for f in a.model_fields_set} == set(Augment.model_fields)
    assert {f for a in values for f in a.color_jitter.model_fields_set} == set(ColorJitter.model_fields)


@pytest.mark.parametrize("name", EACH)
def test_augmentation_follows_the_generator_and_nothing_else(name: str) -> None:
    images, augment = make_images(channels=3), make_augment(name)
    before = images.pixels.clone()
    torch.manual_seed(1)
    first = augmented(images, augment, 1)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(augmented(images, augment, 1), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augmented(images, augment, 2), first)
    assert not torch.equal(first, images.normalized(images.pixels))
    assert torch.equal(images.pixels, before)


@pytest.mark.parametrize("name", sorted(EACH.keys() - {"saturation", "hue"}))
def test_gray_images_are_augmented(name: str) -> None:
    images = make_images(64)
    found = augmented(images, make_augment(name))
    assert found.shape == images.pixels.shape
    assert not torch.equal(found, images.normalized(images.pixels))


@given(
    st.builds(
        Augment,
        crop_padding=st.integers(0, 5),
        crop_mode=st.sampled_from(["zero", "reflect"]),
        flip=st.booleans(),
        rotation_degrees=st.floats(0, 180),
        auto=st.sampled_from(["none", "autoaugment_cifar10", "trivial"]),
        color_jitter=st.builds(ColorJitter, brightness=st.floats(0, 1), hue=st.floats(0, 0.5)),
        cutout=st.integers(0, 20),
        erasing=st.floats(0, 1),
    )
)
def test_any_augmentation_gives_images_of_the_same_kind(augment: Augment) -> None:
    pixels = make_images(7, channels=3).pixels
    found = change(pixels, augment, generator())
    assert (found.shape, found.dtype) == (pixels.shape, torch.uint8)
    batch = cover(found.float(), augment, generator())
    assert batch.shape == pixels.shape
    assert ((batch == found) | (batch == 0)).all()


def places(size: int) -> Images:
    """Images that say where each pixel is: its column in one channel, its row in the other."""
    steps = torch.arange(size, dtype=torch.uint8)
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))[None].repeat(500, 1, 1, 1)
    return Images(ImageSet(pixels.numpy(), np.zeros(500, np.int64)), (0.5, 0.5), (0.5, 0.5), torch.device("cpu"))


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_a_resized_crop_is_a_rectangle_of_the_image_at_its_size(smallest: float) -> None:
    size = 200
    found = change(places(size).pixels, Augment(crop_padding=0, resized_crop=smallest), generator()).float()
    columns, rows = found[:, 0], found[:, 1]
    assert (columns == columns[:, :1]).all()  # the same for all rows, so that nothing is turned or sheared
    assert (rows == rows[..., :1]).all()
    (left, right), (top, bottom) = (x[:, [0, -1]].T for x in (columns[:, 0], rows[..., 0]))
    width, height = (right - left + 1) / size, (bottom - top + 1) / size
    area, ratio = width * height, width / height
    assert area.min() > smallest - 0.03
    assert area.max() > 0.9
    assert area.quantile(0.1) < smallest + 0.15
    assert (ratio.min() > 0.72) & (ratio.max() < 1.38)
    assert (ratio.min() < 0.8) & (ratio.max() > 1.25)
    assert left.min() < 5 < 20 < left.max()
    assert right.max() > size - 5
    assert (top.min() < 5) & (bottom.max() > size - 5)
    middle = columns[:, 0, size // 2] - (left + right) / 2  # evenly spaced
    assert middle.abs().max() <= 1.5


def test_a_crop_is_a_shift_with_black_borders() -> None:
    images = make_images(40, channels=2)
    padded = np.pad(images.pixels.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    shifts = []
    for i, found in enumerate(augmented(images, Augment(crop_padding=2))):
        places = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(found, images.normalized(torch.from_numpy(padded[i : i + 1, :, r : r + 8, c : c + 8]))[0])
        ]
        assert len(places) == 1
        shifts += places
    assert len(set(shifts)) > 10
    assert {r for r, _ in shifts} == {c for _, c in shifts} == set(range(5))


def test_a_flip_mirrors_half_of_the_images() -> None:
    images = make_images(100)
    plain, found = images.normalized(images.pixels), augmented(images, Augment(crop_padding=0, flip=True))
    kept = [torch.equal(a, b) for a, b in zip(plain, found, strict=True)]
    mirrored = [torch.equal(a.flip(-1), b) for a, b in zip(plain, found, strict=True)]
    assert all(k != m for k, m in zip(kept, mirrored, strict=True))
    assert 30 < sum(mirrored) < 70


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 64])
def test_cutout_sets_one_square_to_the_mean(side: int) -> None:
    images = make_images(60, channels=2)
    plain = images.normalized(images.pixels)
    assert (plain != 0).all()
    found = augmented(images, Augment(crop_padding=0, cutout=side))
    areas = []
    for before, after in zip(plain, found, strict=True):
        gone = (after == 0).all(dim=0)
        rows_, columns = gone.any(dim=1).nonzero().flatten(), gone.any(dim=0).nonzero().flatten()
        assert len(rows_) == rows_[-1] - rows_[0] + 1 <= side
        assert len(columns) == columns[-1] - columns[0] + 1 <= side
        assert int(gone.sum()) == len(rows_) * len(columns)
        assert torch.equal(after[:, ~gone], before[:, ~gone])
        areas.append(int(gone.sum()))
    assert max(areas) == min(side, 8) ** 2


def test_a_reflected_crop_is_a_shift_with_mirrored_borders() -> None:
    images = make_images(40, channels=2)
    padded = np.pad(images.pixels.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    places = set()
    for i, found in enumerate(change(images.pixels, Augment(crop_padding=2, crop_mode="reflect"), generator())):
        windows = {
            (r, c): padded[i, :, r : r + 8, c : c + 8]
            for r in range(5)
            for c in range(5)
            if np.array_equal(padded[i, :, r : r + 8, c : c + 8], found)
        }
        assert len(windows) == 1
        places |= set(windows)
    assert len(places) > 10


@pytest.mark.parametrize("size", [8, 9])
def test_a_rotation_is_torchvisions(size: int) -> None:
    pixels = make_images(20, channels=3, size=size).pixels
    degrees = torch.linspace(-179, 177, 20)
    expected = torch.stack([F.rotate(x, float(d)) for x, d in zip(pixels, degrees, strict=True)])
    assert (rotated(pixels, degrees) == expected).float().mean() > 0.99  # ties between two pixels go either way
    assert torch.equal(rotated(pixels, torch.zeros(20)), pixels)
    assert torch.equal(rotated(pixels, torch.full((20,), 90.0)), pixels.rot90(1, (2, 3)))


def test_rotations_stay_within_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "trainables.data.augmentation.augment.rotated", lambda pixels, degrees: drawn.append(degrees) or pixels
    )
    change(make_images(400).pixels, make_augment("rotation"), generator())
    assert drawn[0].abs().max() <= 20
    assert drawn[0].min() < -18
    assert drawn[0].max() > 18


COLORS = {
    "brightness": (F.adjust_brightness, 0.0, 2.0),
    "contrast": (F.adjust_contrast, 0.0, 2.0),
    "saturation": (F.adjust_saturation, 0.0, 2.0),
    "hue": (F.adjust_hue, -0.5, 0.5),
}


@pytest.mark.parametrize("name", COLORS)
def test_changes_of_color_are_torchvisions(name: str) -> None:
    adjust, low, high = COLORS[name]
    images = make_images(40, channels=3).pixels.float() / 255
    images[0], images[1, :, 0] = 0.5, 1.0  # gray, and white
    by = torch.linspace(low, high, 40)
    expected = torch.stack([adjust(x, float(b)) for x, b in zip(images, by, strict=True)])
    assert torch.allclose(getattr(color_jitter, name)(images, by), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_changes_of_gray_images_are_torchvisions(name: str) -> None:
    images = make_images(10).pixels.float() / 255
    by = torch.linspace(0, 2, 10)
    expected = torch.stack([COLORS[name][0](x, float(b)) for x, b in zip(images, by, strict=True)])
    assert torch.allclose(getattr(color_jitter, name)(images, by), expected, atol=1e-6)


@pytest.mark.parametrize("name", COLORS)
def test_strengths_bound_the_factors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(color_jitter, name, lambda images, factor: drawn.append(factor) or images)
    change(make_images(400, channels=3).pixels, make_augment(name), generator())
    strength, center = EACH[name]["color_jitter"][name], 0.0 if name == "hue" else 1.0
    assert (drawn[0] - center).abs().max() <= strength
    assert (drawn[0] - center).min() < -0.9 * strength
    assert (drawn[0] - center).max() > 0.9 * strength


def test_the_order_of_color_changes_is_drawn() -> None:
    images = make_images(200, channels=3).pixels.float() / 255
    by = torch.full((200,), 1.4)
    orders = [
        color_jitter.contrast(color_jitter.brightness(images, by), by),
        color_jitter.brightness(color_jitter.contrast(images, by), by),
    ]
    assert not torch.allclose(*orders, atol=1e-3)

    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in COLORS:
            patch.setattr(color_jitter, name, lambda images, factor, name=name: calls.append(name) or images)
        every = Augment.model_validate({"crop_padding": 0, "color_jitter": dict.fromkeys(COLORS, 0.1)})
        for seed in range(20):
            change(make_images(2, channels=3).pixels, every, generator(seed))
    rounds = {tuple(calls[i : i + 4]) for i in range(0, 80, 4)}
    assert all(sorted(names) == sorted(COLORS) for names in rounds)
    assert len(rounds) > 5


def test_erasing_sets_a_rectangle_to_the_mean_in_some_images() -> None:
    images = make_images(600, channels=2, size=20)
    plain = images.normalized(images.pixels)
    assert (plain != 0).all()
    found = augmented(images, make_augment("erasing"))
    shares = []
    for before, after in zip(plain, found, strict=True):
        gone = (after == 0).all(dim=0)
        rows, columns = gone.any(dim=1).nonzero().flatten(), gone.any(dim=0).nonzero().flatten()
        assert int(gone.sum()) == len(rows) * len(columns)
        assert torch.equal(after[:, ~gone], before[:, ~gone])
        if len(rows):
            assert len(rows) == rows[-1] - rows[0] + 1
            assert len(columns) == columns[-1] - columns[0] + 1
            assert (len(rows) - 0.5) / (len(columns) + 0.5) <= 3.3  # sides are rounded
            assert (len(rows) + 0.5) / (len(columns) - 0.5) >= 0.3
            shares.append(float(gone.float().mean()))
    assert 240 < len(shares) < 360
    assert 0.01 < min(shares) < 0.05
    assert 0.28 < max(shares) < 0.36


@pytest.mark.parametrize("name", POLICIES)
def test_no_change_waits_for_the_device(name: str) -> None:
    pixels = make_images(40, channels=3).pixels.to("meta")  # which knows no values: asking for one raises an error
    colors = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
    rest = {"flip": True, "rotation_degrees": 5, "cutout": 2, "erasing": 0.5, "color_jitter": colors}
    augment = Augment.model_validate({"auto": name, **rest})
    assert cover(change(pixels, augment, generator()).float(), augment, generator()).shape == pixels.shape


def test_no_change_imports_torchvision() -> None:
    """Which takes 1 s and imports torch's compiler."""
    code = (
        "import sys, torch\n"
        "from trainables.data.augmentation.augment import change, cover\n"
        "from trainables.config import Augment\n"
        "for auto in ('autoaugment_cifar10', 'trivial'):\n"
        "    a = Augment.model_validate({'flip': True, 'rotation_degrees': 5, 'cutout': 2, 'erasing': 0.5,"
        " 'auto': auto, 'color_jitter': {'brightness': 0.1, 'hue': 0.1}})\n"
        "    g = torch.Generator()\n"
        "    cover(change(torch.zeros(99, 3, 8, 8, dtype=torch.uint8), a, g).float(), a, g)\n"
        "print(sorted({'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in EACH if EACH[name].get("auto") is None])
def test_images_need_not_be_square(name: str) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (400, 3, 8, 14), dtype=np.uint8))
    augment = make_augment(name)
    found = change(pixels, augment, generator())
    assert (found.shape, found.dtype) == (pixels.shape, torch.uint8)
    batch = cover(found.float() + 1, augment, generator())
    assert batch.shape == pixels.shape
    if augment.cutout or augment.erasing:
        hidden = (batch == 0).all(1)
        assert hidden.any(0).all()  # each place is covered in some image
        assert not hidden.all(2).all(1).any()


def test_a_turn_keeps_the_proportions_of_an_image_that_is_not_square() -> None:
    wide = torch.zeros(1, 1, 20, 40, dtype=torch.uint8)
    wide[..., 5:15, 15:25] = 255  # a square about the center, which a quarter turn leaves as it is
    for degrees in (90.0, 180.0, -90.0):
        assert torch.equal(rotated(wide, torch.tensor([degrees])), wide)
