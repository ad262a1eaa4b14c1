"""Numbers of a configuration that may be written with a unit: `50KB`, `95 %`, `1pp` (torch-free)."""

from collections.abc import Callable
from typing import Any

from pydantic import BeforeValidator

from trainables.errors import ConfigError
from trainables.quantities import parse_points, parse_share, parse_size


def _reader(parse: Callable[[str], float], unit: str) -> BeforeValidator:
    """Returns what reads a text with a unit; a share that is written as a number of hundredths is refused."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            if unit and isinstance(value, int | float) and 1 < value <= 100:
                raise ValueError(f"must be between 0 and 1: write {value / 100:g} or {value:g}{unit}")
            return value
        try:
            return parse(value)
        except ConfigError as err:
            raise ValueError(str(err).rstrip(".")) from err

    return BeforeValidator(read)


SIZE = _reader(parse_size, "")
"""For bytes: `50KB`."""
SHARE = _reader(parse_share, " %")
"""For a share between 0 and 1: `95 %`."""
POINTS = _reader(parse_points, "pp")
"""For a difference of two shares: `1pp`."""
