"""A table of text on standard output, as every command prints it."""

from collections.abc import Collection, Iterable, Sequence


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str], title: str = "") -> None:
    """Columns named in `left` begin together, the others, numbers, end together; no line is folded."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title=title or None, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(highlight=False)
    console.print(table, soft_wrap=True)
