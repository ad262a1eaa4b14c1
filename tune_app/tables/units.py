"""Numbers with units in a condition: `accuracy > 90% and size_bytes < 50KB`, as plain SQL."""

import re

from trainables.quantities import NUMBER, parse_points, parse_ratio, parse_share, parse_size

QUOTED = r"'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)"
SIZE = rf"(?:{NUMBER}) ?[KMGT]i?B\b"
SHARE = rf"(?:{NUMBER}) ?%(?= *(?:$|[),]|and\b|or\b))"
"""`%` is an operator of SQL too, so that a share is at the end of its comparison."""
TOKEN = re.compile(
    rf"(?P<quoted>{QUOTED})|(?<![\w.])(?:(?P<size>{SIZE})|(?P<points>(?:{NUMBER}) ?pp\b)|(?P<ratio>(?:{NUMBER})x\b)"
    rf"|(?P<share>{SHARE}))",
    re.IGNORECASE | re.MULTILINE,
)
PARSERS = {"size": parse_size, "points": parse_points, "ratio": parse_ratio, "share": parse_share}


def without_units(condition: str) -> str:
    """Returns a condition with plain numbers for those that have a unit; what stands between quotes stays.

    Raises:
        ConfigError: a share or a difference is larger than 100 %.
    """
    return TOKEN.sub(_plain, condition)


def _plain(found: re.Match[str]) -> str:
    unit = str(found.lastgroup)
    return found[0] if unit == "quoted" else repr(PARSERS[unit](found[0]))
