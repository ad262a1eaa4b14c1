"""Conditions as people write them: with units, which SQL has none of."""

import pytest

from trainables.errors import ConfigError
from tune_app.tables.units import without_units


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("accuracy > 90%", "accuracy > 0.9"),
        ("accuracy > 90 % AND a_bits = 8", "accuracy > 0.9 AND a_bits = 8"),
        ("accuracy between 90% and 95%", "accuracy between 0.9 and 0.95"),
        ("accuracy in (90%, 91.72%)", "accuracy in (0.9, 0.9172)"),
        ("accuracy > 90%\nand true", "accuracy > 0.9\nand true"),
        ("size_bytes < 50KB or size_bytes > 1.5 MiB", "size_bytes < 50000 or size_bytes > 1572864"),
        ("compression_ratio >= 20x", "compression_ratio >= 20.0"),
        ("accuracy_drop < 1pp", "accuracy_drop < 0.01"),
    ],
)
def test_a_number_with_a_unit_becomes_a_plain_one(written: str, plain: str) -> None:
    assert without_units(written) == plain


@pytest.mark.parametrize(
    "condition",
    [
        "w_bits % 2 = 0",
        "w_bits = 8 % 3",
        "label = 'p50 50KB 20x 90%'",
        "label like '%50%'",
        'sparsity_50x > 1 and "a 5KB" = 2',
        "label = 'it''s 50KB'",
        "0x10 > 1",
        "size_bytes < 5e4",
        "label = 'open 50KB",
    ],
)
def test_everything_else_stays(condition: str) -> None:
    assert without_units(condition) == condition


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="'120%' is no share"):
        without_units("accuracy > 120%")
