"""Numbers of a configuration that may be written with a unit: `50KB`, `95 %`, `1pp` (torch-free)."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import BeforeValidator

from trainables.errors import ConfigError
from trainables.quantities import NUMBER, parse_points, parse_share, parse_size


def _reader(parse: Callable[[str], float], unit: str) -> BeforeValidator:
    """Returns what reads a text with a unit; a share that is written as a number of hundredths is refused."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            if unit and isinstance(value, int | float) and 1 < value <= 100:
                raise ValueError(f"must be between 0 and 1: write {value / 100:g} or {value:g}{unit}")
            return value
        return parsed(value, parse)

    return BeforeValidator(read)


def parsed(text: str, parse: Callable[[str], float]) -> float:
    """Returns the number that a text says, or raises ValueError, which pydantic expects of a check, with the reason."""
    try:
        return parse(text)
    except ConfigError as err:
        raise ValueError(str(err).rstrip(".")) from err


def _with_unit(value: Any) -> Any:
    """Reads a text that is a share or a size by its unit; whatever else it is, it stays."""
    unit = re.fullmatch(rf" *(?:{NUMBER}) *(?:(%)|[KMGT]i?B) *", value) if isinstance(value, str) else None
    return value if unit is None else parsed(value, parse_share if unit[1] else parse_size)


SIZE = _reader(parse_size, "")
"""For bytes: `50KB`."""
SHARE = _reader(parse_share, " %")
"""For a share between 0 and 1: `95 %`."""
POINTS = _reader(parse_points, "pp")
"""For a difference of two shares: `1pp`."""
UNIT = BeforeValidator(_with_unit)
"""For a value of any field: a text with a unit is its number."""
