"""A table of text on standard output, as wide as its cells need."""

from collections.abc import Collection, Iterable, Sequence

WIDEST = 100_000


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], title: str = "") -> None:
    """Columns named in `left` begin together, the others, numbers, end together; no cell is cut or folded."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title=title or None, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    wide = Console(highlight=False, width=WIDEST)
    Console(highlight=False, width=Measurement.get(wide, wide.options, table).maximum).print(table)
