import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tests.trainables.factories import make_images
from trainables.data.augmentation import policy_operations
from trainables.data.augmentation.policies import (
    AUTO,
    AUTO_CIFAR10,
    AUTO_LEVELS,
    NUMBERS,
    POLICIES,
    SIGNED,
    TRIVIAL,
    TRIVIAL_LEVELS,
    Space,
    auto_augment_cifar10,
    magnitudes,
    trivial_augment,
)

THEIRS = {
    "autoaugment_cifar10": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "trivial": v2.TrivialAugmentWide(),
}
Drawn = list[tuple[Tensor, Tensor]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ours(name: str) -> str:
    """Torchvision's name of an operation in our words: ShearX is shear_x."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Operations and magnitudes of each round, which are not applied."""
    seen: Drawn = []

    def note(pixels: Tensor, kinds: Tensor, by: Tensor) -> Tensor:
        seen.append((kinds, by))
        return pixels

    monkeypatch.setattr(policy_operations, "apply", note)
    return seen


def test_the_pairs_of_auto_augment_are_torchvisions() -> None:
    theirs = [
        [(ours(name), p, level or 0) for name, p, level in pair] for pair in THEIRS["autoaugment_cifar10"]._policies
    ]
    assert [list(pair) for pair in AUTO_CIFAR10] == theirs


@pytest.mark.parametrize("size", [8, 32, 33])
@pytest.mark.parametrize(
    ("name", "space", "levels"), [("autoaugment_cifar10", AUTO, AUTO_LEVELS), ("trivial", TRIVIAL, TRIVIAL_LEVELS)]
)
def test_magnitudes_are_torchvisions(name: str, space: Space, levels: int, size: int) -> None:
    theirs = {ours(key): value for key, value in THEIRS[name]._AUGMENTATION_SPACE.items()}
    assert list(space) == list(theirs)
    table = magnitudes(space, levels, size=size if space is AUTO else 1)
    for key, (leveled, signed) in theirs.items():
        expected = leveled(levels, size, size)
        assert table[NUMBERS[key]].tolist() == ([0] * levels if expected is None else expected.tolist())
        assert signed == (key in SIGNED)


def assert_shares(found: Tensor, expected: Tensor) -> None:
    """Counts lie within five standard deviations of what these probabilities give."""
    count = found.sum()
    assert ((found - count * expected).abs() <= 5 * (count * expected * (1 - expected)).sqrt()).all()


def test_trivial_augment_draws_every_operation_and_level_alike(drawn: Drawn) -> None:
    trivial_augment(torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8), generator())
    [(kinds, by)] = drawn
    assert_shares(kinds.bincount(), torch.full((len(TRIVIAL),), 1 / len(TRIVIAL)))
    table = magnitudes(TRIVIAL, TRIVIAL_LEVELS)
    for name in set(TRIVIAL) - {"identity", "posterize", "auto_contrast", "equalize"}:
        row, its = table[NUMBERS[name]], by[kinds == NUMBERS[name]]
        level = (its[:, None].abs() == row).nonzero()[:, 1]
        assert_shares(level.bincount(minlength=len(row)), torch.full((len(row),), 1 / len(row)))
        moved = its[its != 0]
        assert_shares(
            torch.stack(((moved < 0).sum(), (moved > 0).sum())),
            torch.tensor([0.5, 0.5] if name in SIGNED else [0, 1.0]),
        )


def test_auto_augment_draws_every_pair_alike_and_operations_by_their_probability(drawn: Drawn) -> None:
    auto_augment_cifar10(torch.zeros(200_000, 1, 32, 1, dtype=torch.uint8).expand(-1, -1, -1, 32), generator())
    table = magnitudes(AUTO, AUTO_LEVELS, size=32)
    expected: Counter[tuple[tuple[int, float], ...]] = Counter()
    for pair in AUTO_CIFAR10:
        first, second = ([(0, 0.0, 1 - p), *_outcomes(NUMBERS[name], table, level, p)] for name, p, level in pair)
        for a in first:
            for b in second:
                expected[a[:2], b[:2]] += a[2] * b[2] / len(AUTO_CIFAR10)
    steps = [zip(kinds.tolist(), by.tolist(), strict=True) for kinds, by in drawn]
    found = Counter(zip(*steps, strict=True))
    assert math.isclose(sum(expected.values()), 1)
    assert found.keys() <= {outcome for outcome, p in expected.items() if p}
    assert_shares(
        torch.tensor([float(found[outcome]) for outcome in expected]),
        torch.tensor(list(expected.values())),
    )


def _outcomes(kind: int, table: Tensor, level: int, probability: float) -> list[tuple[int, float, float]]:
    """Operation, magnitude and share; a magnitude of 0 has one sign."""
    by = float(table[kind, level])
    if policy_operations.OPERATIONS[kind].__name__ in SIGNED:
        return [(kind, by, probability / 2), (kind, -by, probability / 2)]
    return [(kind, by, probability)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POLICIES)
def test_images_become_what_torchvision_makes_of_them_as_often(name: str, channels: int) -> None:
    [image] = make_images(1, channels=channels, size=32).pixels
    count = 3000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = Counter(THEIRS[name](image).numpy().tobytes() for _ in range(count))
    found = Counter(one.numpy().tobytes() for one in POLICIES[name](image.expand(count, -1, -1, -1), generator()))
    assert len(found) > 60
    common = {one for counted in (theirs, found) for one, times in counted.items() if times > count / 200}
    assert common
    for one in common:
        assert abs(found[one] - theirs[one]) < 5 * math.sqrt(found[one] + theirs[one])
    assert sum((found & theirs).values()) > 0.8 * count


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_what_happens_to_an_image_is_independent_of_the_others(policy: Callable[..., Tensor]) -> None:
    pixels = make_images(50, channels=3).pixels
    others = pixels.clone()
    others[1:] = ~others[1:]
    assert torch.equal(policy(pixels, generator())[0], policy(others, generator())[0])
    assert not torch.equal(policy(pixels, generator()), policy(pixels, generator(1)))
