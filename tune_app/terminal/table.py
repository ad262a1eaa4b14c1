"""Tables of text on standard output: as wide as their cells need, or folded into the width of the terminal."""

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from trainables.printable import printable

ABSENT = "–"
"""How a cell says that there is no value."""
WIDEST = 100_000
"""Columns of a terminal on which no table would be folded: rich measures what a table needs against some width."""


def make_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], breakable: Collection[str] = ()
) -> Table:
    """Returns a table of plain text in which no cell is cut, and none steers the terminal.

    Columns named in `left` begin together, the others, numbers, end together; `breakable` ones may take several lines.
    """
    table, lines = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0), [[*map(printable, row)] for row in rows]
    for head, *cells in zip(heads, *lines, strict=True):
        side: JustifyMethod = "left" if head in left else "right"
        whole = None if head in breakable else max(map(cell_len, [head, *cells]))  # rich counts the longest word alone
        table.add_column(head, justify=side, no_wrap=whole is not None, min_width=whole, overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def widths(table: Table) -> Measurement:
    """Returns the columns of a terminal that a table needs at least, and those that it takes where it is not folded."""
    wide = Console(width=WIDEST)
    return Measurement.get(wide, wide.options, table)


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], folded: Collection[str] = ()
) -> None:
    """Prints a table as `make_table` makes it: each row on one line, or `folded` columns into the terminal's width."""
    table = make_table(heads, rows, left=left, breakable=folded)
    Console(highlight=False, width=None if folded else widths(table).maximum).print(table)
