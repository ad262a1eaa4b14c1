"""Moments of a layer's inputs: those of the sums that its outputs are."""

import pytest
import torch
from torch import Tensor, nn

from trainables.models.units import ConvUnit, LinearUnit, Unit
from trainables.train import moments
from trainables.train.moments import input_moments

ALL = slice(0, None)


def conv(**settings: object) -> Unit:
    layer = {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "bias": False} | settings
    return ConvUnit(nn.Conv2d(**layer), role="conv")  # type: ignore[arg-type]


def pixels(count: int = 40, *, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 6, 7, generator=torch.Generator().manual_seed(seed)) + 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": (2, 1)},
        {"dilation": 2},
        {"groups": 2},
        {"groups": 4},
        {"kernel_size": 1},
    ],
)
def test_moments_of_a_convolution_are_those_of_its_outputs(settings: dict[str, object]) -> None:
    unit, x, y = conv(**settings), pixels(), pixels(seed=1)
    layer = unit.layer
    assert isinstance(layer, nn.Conv2d)
    found = input_moments(unit, y, x, ALL, centered=False)
    of_x, of_y = (layer(images).detach().double() for images in (x, y))
    weight = layer.weight.detach().double().view(layer.groups, 8 // layer.groups, -1)
    for product, expected in ((found.own, of_x * of_x), (found.cross, of_y * of_x)):
        squares = torch.einsum("goi,gij,goj->go", weight, product, weight).flatten()
        torch.testing.assert_close(squares, expected.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_centered_moments_are_about_the_means() -> None:
    unit = LinearUnit(nn.Linear(5, 3))
    x, y = (torch.randn(50, 5, generator=torch.Generator().manual_seed(i)) + 2 for i in range(2))
    found = input_moments(unit, y, x, ALL, centered=True)
    both = torch.cov(torch.cat([x, y], dim=1).T.double(), correction=0)
    torch.testing.assert_close(found.own[0], both[:5, :5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.cross[0], both[5:, :5], rtol=1e-5, atol=1e-5)


def test_small_changes_of_large_inputs_are_seen() -> None:
    """Centered products are those of a covariance, whatever the mean: positive definite, so that GPTQ can use them."""
    unit = LinearUnit(nn.Linear(5, 3))
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) + 3_000
    found = input_moments(unit, x, x, ALL, centered=True).own[0]
    torch.testing.assert_close(found, torch.cov(x.T.double(), correction=0), rtol=1e-4, atol=1e-4)


def test_a_part_of_the_inputs_has_its_part_of_the_moments() -> None:
    unit, x = conv(), pixels()
    whole, part = (input_moments(unit, x, x, columns, centered=True) for columns in (ALL, slice(9, 18)))
    torch.testing.assert_close(part.own, whole.own[:, 9:18, 9:18], rtol=1e-5, atol=1e-5)


def test_many_places_are_read_at_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, x = conv(padding=1), pixels(600)
    every = input_moments(unit, x, x, ALL, centered=True).own
    monkeypatch.setattr(moments, "ROWS", 2_800)
    some = input_moments(unit, x, x, ALL, centered=True).own
    assert not torch.equal(some, every)
    torch.testing.assert_close(some, every, rtol=0, atol=0.1)


def test_small_maps_have_a_place_to_read_at_any_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "ROWS", 1)
    found = input_moments(conv(), pixels(), pixels(), ALL, centered=True)
    assert torch.isfinite(found.own).all()
    assert float(found.own.diagonal(dim1=1, dim2=2).min()) > 0
