"""Quantities are read the way people write them, and nothing else is."""

import pytest

from trainables.errors import ConfigError
from trainables.quantities import parse_points, parse_ratio, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1_000_000", 1_000_000),
        ("1.5kB", 1500),
        ("0.3 MiB", 314_572),
        (" 2 gb ", 2_000_000_000),
        ("1GiB", 2**30),
        ("0", 0),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "MB", "-1", "2GB or so", "2GB;", "1e6", "nan", "2 XB", "_1", "1.2.3MB", "٣MB", "9" * 400 + "GB"]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size: write it like 500MB, 2GB or 1_000_000"):
        parse_size(text)


@pytest.mark.parametrize(("text", "expected"), [("10x", 10), (" 1.5 X", 1.5), ("8", 8), ("2×", 2), (".5x", 0.5)])
def test_a_ratio_may_end_in_x(text: str, expected: float) -> None:
    assert parse_ratio(text) == expected


@pytest.mark.parametrize("text", ["", "x", "0x", "-2x", "10y", "nan", "1e3x", "10xx"])
def test_anything_else_is_no_ratio(text: str) -> None:
    with pytest.raises(ConfigError, match="is no ratio: write it like 10x"):
        parse_ratio(text)


@pytest.mark.parametrize(("text", "expected"), [("1pp", 0.01), ("0.5 pp", 0.005), ("0PP", 0), ("100pp", 1)])
def test_points_are_hundredths(text: str, expected: float) -> None:
    assert parse_points(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "1", "0.01", "1%", "-1pp", "101pp", "pp", "nanpp"])
def test_a_bare_number_is_no_difference(text: str) -> None:
    with pytest.raises(ConfigError, match="is no number of percentage points: write it like 1pp"):
        parse_points(text)


@pytest.mark.parametrize(("text", "expected"), [("95 %", 0.95), (" 95% ", 0.95), ("0.95", 0.95), ("0%", 0), ("1", 1)])
def test_a_share_is_a_percentage_or_a_number_up_to_one(text: str, expected: float) -> None:
    assert parse_share(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "%", "95", "101 %", "-1%", "nan", "95 %%", "1pp", "1e-2"])
def test_anything_else_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no share: write it like 95 % or 0\.95"):
        parse_share(text)
