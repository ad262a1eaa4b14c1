"""The stored bits were computed once; that they are right is compared with 50 decimal digits."""

import hashlib
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

from trainables.arithmetic import exp2, log2, log2_1m, total

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)
EXPONENTS = np.concatenate([RNG.random(1000) * 260 - 130, RNG.random(1000) * 2 - 1, np.arange(-60.0, 60.0) / 2])
POSITIVE = np.concatenate([np.ldexp(RNG.random(1000) + 0.5, RNG.integers(-100, 100, 1000)), RNG.random(1000) + 0.5])
SHARES = np.concatenate([np.ldexp(RNG.random(500), RNG.integers(-40, 1, 500)), [0.0, 0.2499999, 0.25, 0.999999]])
"""Not `uniform`, whose product and sum some processors round once instead of twice."""


def exactly(function: Callable[[Decimal], Decimal], values: np.ndarray) -> list[Decimal]:
    with localcontext() as context:
        context.prec = 50
        return [function(Decimal(float(value))) for value in values]


def worst(found: np.ndarray, exact: list[Decimal]) -> float:
    """The largest error, in units in the last place."""
    places = [Decimal(float(np.spacing(abs(one)))) for one in found]
    return max(
        float(abs(Decimal(float(one)) - right) / place) for one, right, place in zip(found, exact, places, strict=True)
    )


def sha256(values: np.ndarray) -> str:
    return hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]


LN2 = exactly(lambda x: x.ln(), np.array([2.0]))[0]


@pytest.mark.parametrize(
    ("function", "values", "exact", "off_by", "digest"),
    [
        (exp2, EXPONENTS, lambda x: (x * LN2).exp(), 2, "abdc90951fb5b8b6"),
        (log2, POSITIVE, lambda x: x.ln() / LN2, 4, "474fc3d7d3088f08"),
        (np.vectorize(log2_1m), SHARES, lambda x: (1 - x).ln() / LN2, 4, "a8c1d689711bf261"),
    ],
    ids=["exp2", "log2", "log2_1m"],
)
def test_every_processor_finds_these_bits_and_they_are_right(
    function: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    exact: Callable[[Decimal], Decimal],
    off_by: float,
    digest: str,
) -> None:
    found = function(values)
    assert worst(found, exactly(exact, values)) <= off_by
    assert sha256(found) == digest


def test_powers_of_two_are_exact() -> None:
    whole = np.arange(-1000, 1000)
    assert np.array_equal(exp2(whole), np.ldexp(1.0, whole))
    assert np.array_equal(log2(np.ldexp(1.0, whole)), whole)


def test_what_is_not_finite_stays_so_without_a_warning() -> None:
    assert np.isnan(exp2([np.nan, np.inf, -np.inf])).all()
    assert exp2([1e30, 1100, -1e30, -1100]).tolist() == [np.inf, np.inf, 0, 0]


def test_a_total_adds_one_value_after_the_other() -> None:
    values = RNG.random((50, 999)) - 0.5
    for row, found in zip(values, total(values), strict=True):
        one_by_one = 0.0
        for value in row.tolist():
            one_by_one += value
        assert found == one_by_one
    assert np.array_equal(total(values.T, axis=0), total(values))
    assert total(np.zeros(0)) == 0
