import pytest
from scipy.stats import binomtest

from tune_app.findings.chance import interval, is_noise


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (5, 10), (170, 179), (287, 287), (9_412, 10_000)])
def test_an_interval_is_wilsons(right: int, n: int) -> None:
    known = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert interval(right / n, n) == pytest.approx((known.low, known.high), abs=1e-12)


def test_a_change_within_the_interval_is_noise() -> None:
    assert is_noise(-0.01, 0.94, 200)
    assert not is_noise(-0.01, 0.94, 20_000)
    assert not is_noise(0.2, 0.94, 200)
