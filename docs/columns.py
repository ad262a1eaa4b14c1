"""Writes the tables of docs/columns.md from the catalog of columns; the text around them is the page's own.

`python docs/columns.py` renews the page; `make docs` does so too, and a test fails when it is behind.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tune_app.tables.columns import CATALOG, Column

PAGE = Path(__file__).parent / "columns.md"
HEAD = "| column | type | meaning |\n|---|---|---|\n"
TYPES = {
    **{pa.string(): "text", pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "true or false"},
    None: "as in the spec",
}


def page(text: str) -> str:
    """Returns the page with a table of each section of the catalog in the place of those that it has, in their order.

    Raises:
        ValueError: it has more tables than the catalog has sections, or fewer.
    """
    sections = ("trial", "measured", "stages", "together", "sizes", "formulas", "cost", "growth", "epochs")
    before, *parts = text.split(HEAD)
    rests = [re.sub(r"\A(\|.*\n)*", "", part) for part in parts]
    tables = ["".join(map(_row, _documented(section))) for section in sections]
    return before + "".join(HEAD + table + rest for table, rest in zip(tables, rests, strict=True))


def _documented(section: str) -> Iterator[Column]:
    """Yields the columns of a section: of a family whose members are known, these."""
    for column in CATALOG[section]:
        known = [replace(column.member(value), meaning=meaning) for value, meaning in column.members.items()]
        yield from known or [column]


def _row(column: Column) -> str:
    return f"| `{column.name}` | {TYPES[column.type]} | {column.meaning} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    print(PAGE)
