"""Units go in and come out the way people write them."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.quantities import parse_size
from tune_app.terminal.quantities import (
    show_count,
    show_duration,
    show_interval,
    show_number,
    show_points,
    show_ratio,
    show_share,
    show_size,
    show_spread,
)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.5, "1.00 KB"),
        (1_000, "1.00 KB"),
        (59_888, "59.9 KB"),
        (99_960, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.00 MB"),
        (8_946_728, "8.95 MB"),
        (2.5e12, "2.50 TB"),
    ],
)
def test_a_size_has_three_digits(size_bytes: float, expected: str) -> None:
    assert show_size(size_bytes) == expected


@given(st.integers(min_value=0, max_value=10**14))
def test_what_is_shown_is_read_as_nearly_the_same(size_bytes: int) -> None:
    assert parse_size(show_size(size_bytes)) == pytest.approx(size_bytes, rel=0.006, abs=1)


@pytest.mark.parametrize(
    ("show", "value", "expected"),
    [
        (show_ratio, 7.314, "7.31x"),
        (show_ratio, 9.996, "10.0x"),
        (show_ratio, 20.24, "20.2x"),
        (show_share, 0.97771, "97.77 %"),
        (lambda share: show_share(share, digits=0), 0.5, "50 %"),
        (lambda low: show_interval(low, 1.0), 0.9868, "98.68 to 100.00"),
        (lambda share: show_spread(share, 0.003), 0.9118, "91.18 ± 0.30 %"),
        (show_number, 852_649.4, "852,649"),
        (show_number, 0.1234567, "0.123457"),
        (lambda number: show_count(int(number), "point"), 1, "1 point"),
        (lambda number: show_count(int(number), "point"), 2_000, "2,000 points"),
        (show_number, 612_149_000_000.0, "612,149,000,000"),
        (show_points, -0.0087, "-0.87 pp"),
        (show_points, 0.0, "+0.00 pp"),
        (show_points, -0.00001, "+0.00 pp"),
        (lambda loss: show_points(loss, signed=False), 0.0348, "3.48 pp"),
        (lambda loss: show_points(loss, signed=False), -0.00001, "0.00 pp"),
        (show_duration, 0.4, "0 s"),
        (show_duration, 45, "45 s"),
        (show_duration, 90, "1.5 min"),
        (show_duration, 5_400, "1.5 h"),
        (show_duration, 100_000, "27.8 h"),
        (show_duration, 200_000, "2.3 d"),
    ],
)
def test_shares_and_ratios(show: Callable[[float], str], value: float, expected: str) -> None:
    assert show(value) == expected
