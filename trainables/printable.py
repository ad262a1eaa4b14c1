"""Text from elsewhere as a terminal may have it: what would steer it is written out (torch-free)."""

import re
from typing import Annotated

from pydantic import AfterValidator

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tabs and line breaks, marks that turn the direction of writing, and halves of characters."""


def printable(text: str) -> str:
    """Returns a text in which control characters are written out, an escape as `\\x1b`; others stay as they are."""
    return STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


Printable = Annotated[str, AfterValidator(printable)]
"""A text of a record, which may come from anywhere."""
