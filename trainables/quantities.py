"""Quantities as people write them: sizes (300KB), ratios (10x), shares (95 %), differences of shares (1pp)."""

import contextlib
import re

from pydantic import ByteSize, TypeAdapter

from trainables.errors import ConfigError

NUMBER = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
"""The pattern of a number without a sign: `10`, `0.5`, `.5`."""


def parse_size(text: str) -> int:
    """Reads bytes from `500MB`, `2GB` (powers of ten), `1GiB` (of two) or `1_000_000`.

    Raises:
        ConfigError: the text is no size.
    """
    plain = re.sub(r"(?<=[0-9])_(?=[0-9])", "", text.strip())
    # ByteSize ignores what follows a size, and takes 1.5 for one byte.
    if re.fullmatch(r"[0-9]+ *[A-Za-z]*|[0-9]+\.[0-9]+ *[A-Za-z]+", plain):
        with contextlib.suppress(ValueError, OverflowError):
            return int(TypeAdapter(ByteSize).validate_python(plain))
    raise ConfigError(f"{text!r} is no size: write it like 500MB, 2GB or 1_000_000.")


def parse_ratio(text: str) -> float:
    """Reads how many times smaller something is from `10x` or `10`; more than 0.

    Raises:
        ConfigError: the text is no ratio.
    """
    found = re.fullmatch(rf"({NUMBER}) *[x×]?", text.strip().lower())
    if found and float(found[1]) > 0:
        return float(found[1])
    raise ConfigError(f"{text!r} is no ratio: write it like 10x.")


def parse_points(text: str) -> float:
    """Reads a difference of two shares, 0 to 1, from `1pp` or `0.5 pp` (percentage points).

    A bare number is refused: 1 may be meant as one point or as all of it.

    Raises:
        ConfigError: the text is no number of percentage points.
    """
    found = re.fullmatch(rf"({NUMBER}) *pp", text.strip().lower())
    if found and float(found[1]) <= 100:
        return float(found[1]) / 100
    raise ConfigError(f"{text!r} is no number of percentage points: write it like 1pp or 0.5pp.")


def parse_share(text: str) -> float:
    """Reads a share, 0 to 1, from `95 %`, `95%` or `0.95`.

    Raises:
        ConfigError: the text is no share.
    """
    found = re.fullmatch(rf"({NUMBER}) *(%?)", text.strip())
    share = float(found[1]) / (100 if found[2] else 1) if found else 2
    if share <= 1:
        return share
    raise ConfigError(f"{text!r} is no share: write it like 95 % or 0.95.")
