"""GPTQ: weights on the grid whose errors make up for each other."""

import itertools

import pytest
import torch
from torch import Tensor

from trainables.quant import gptq
from trainables.quant.gptq import compensated, rounded
from trainables.train import moments
from trainables.train.moments import Moments

ROWS = 100_000


def inputs(groups: int, count: int, *, seed: int = 0) -> Tensor:
    """Mean products of inputs that depend on each other, (groups, count, count)."""
    draws = torch.Generator().manual_seed(seed)
    mixed = torch.randn(groups, 4 * count, count, dtype=torch.float64, generator=draws).cumsum(-1)
    return mixed.mT @ mixed / (4 * count)


def weights(groups: int, outputs: int, count: int, *, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(groups, outputs, count, dtype=torch.float64, generator=draws)


def error(found: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
    """The mean squared error of each output, (groups, outputs)."""
    change = found - wanted
    return (change @ own * change).sum(-1)


def on_grid(weight: Tensor, step: Tensor, own: Tensor, *, bits: int = 3, keep: Tensor | None = None) -> Tensor:
    keep = torch.ones_like(weight, dtype=torch.bool) if keep is None else keep
    return rounded(weight, step, Moments(own, own, ROWS), bits=bits, keep=keep)


def test_codes_are_whole_and_in_range_and_zeros_stay() -> None:
    weight, step = weights(2, 3, 10), torch.rand(2, 3, 1, dtype=torch.float64) * 0.2 + 0.3
    keep = weight.abs() > 0.4
    codes = on_grid(weight, step, inputs(2, 10), keep=keep) / step
    torch.testing.assert_close(codes, codes.round())
    assert float(codes.abs().max()) < 3.001
    assert not codes[~keep].any()
    assert codes[keep].any()


def test_one_bit_is_a_sign() -> None:
    weight, step = weights(2, 3, 10), torch.rand(2, 3, 1, dtype=torch.float64) + 0.3
    own = inputs(2, 10)
    found = on_grid(weight, step, own, bits=1)
    assert torch.equal(found.abs(), step.expand_as(found))
    assert float(error(found, weight, own).sum()) < float(error(weight.sign() * step, weight, own).sum())


def test_independent_inputs_are_rounded_to_nearest() -> None:
    weight, step = weights(1, 4, 9), torch.full((1, 4, 1), 0.5, dtype=torch.float64)
    own = torch.diag(torch.arange(1.0, 10.0, dtype=torch.float64))[None]
    torch.testing.assert_close(on_grid(weight, step, own), (weight / step).round().clamp(-3, 3) * step)


@pytest.mark.parametrize("seed", range(5))
def test_errors_are_below_those_of_nearest_and_close_to_the_least(seed: int) -> None:
    own, weight = inputs(1, 6, seed=seed), weights(1, 8, 6, seed=seed + 10)
    step = torch.full((1, 8, 1), 1.0, dtype=torch.float64)
    found = error(on_grid(weight, step, own), weight, own)
    nearest = error(weight.round().clamp(-3, 3), weight, own)
    grid = torch.tensor(list(itertools.product(range(-3, 4), repeat=6)), dtype=torch.float64)
    least = torch.stack([error(grid, row.expand_as(grid), own[0]).min() for row in weight[0]])
    assert float(found.mean()) < 0.7 * float(nearest.mean())
    assert (found[0] >= least - 1e-9).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, step, own = weights(2, 3, 50), torch.full((2, 3, 1), 0.3, dtype=torch.float64), inputs(2, 50)
    expected = on_grid(weight, step, own)
    monkeypatch.setattr(gptq, "BLOCK", 7)
    torch.testing.assert_close(on_grid(weight, step, own), expected)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight, step = weights(1, 3, 5), torch.full((1, 3, 1), 0.5, dtype=torch.float64)
    own = torch.zeros(1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(on_grid(weight, step, own), (weight / step).round().clamp(-3, 3) * step)


def test_equal_inputs_need_no_compensation() -> None:
    weight, own = weights(2, 3, 8), inputs(2, 8)
    torch.testing.assert_close(compensated(weight, Moments(own, own, ROWS)), weight)


def test_compensation_undoes_what_happened_to_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "DAMPING", 1e-9)
    draws = torch.Generator().manual_seed(3)
    twin = torch.randn(1, 64, 6, dtype=torch.float64, generator=draws)
    spoiled = twin @ torch.randn(6, 6, dtype=torch.float64, generator=draws)
    weight = weights(1, 4, 6)
    found = compensated(weight, Moments(spoiled.mT @ spoiled / 64, twin.mT @ spoiled / 64, rows=10**12))
    torch.testing.assert_close(spoiled @ found.mT, twin @ weight.mT, rtol=1e-4, atol=1e-4)


def test_few_rows_move_little() -> None:
    """With as many inputs as rows, products are mostly noise: weights then stay near where they were."""
    draws = torch.Generator().manual_seed(4)
    twin, spoiled = (torch.randn(1, 40, 40, dtype=torch.float64, generator=draws) for _ in range(2))
    weight, own, cross = weights(1, 5, 40), spoiled.mT @ spoiled / 40, twin.mT @ spoiled / 40
    moves = [float((compensated(weight, Moments(own, cross, rows)) - weight).square().mean()) for rows in (40, 100_000)]
    assert moves[0] < 0.1 * moves[1]
