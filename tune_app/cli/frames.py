"""Rows for people or for programs: a table on the terminal, JSON, CSV, or a parquet file."""

import io
import json as json_text
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import ConfigError
from trainables.storage import replace, storage_path
from tune_app.tables.columns import COLUMNS, Kind
from tune_app.terminal.table import WIDEST

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from rich.table import Table

LABEL_CHARS = 28
REASON_CHARS = 60
ABSENT = "–"


def write_frame(
    frame: "pd.DataFrame", *, json: bool, csv: bool, parquet: str | None, title: str, none: str = "no rows"
) -> None:
    """Prints rows, or writes them to a parquet file; JSON and CSV go to standard output alone.

    Args:
        frame: rows with the columns of the table of trials, or some of them.
        json: a list of records; a missing value is null.
        csv: with a header; a missing value is empty.
        parquet: path or URI of a file to write in one step.
        title: heads the table that people read.
        none: what they read where there is no row.

    Raises:
        ConfigError: JSON and CSV at once, or the file's name is a folder's or that of another format.
        StorageUnavailable: the file cannot be written.
    """
    if json and csv:
        raise ConfigError("JSON and CSV both go to standard output: choose one of the two.")
    if parquet is not None:
        _write_parquet(frame, parquet)
    if json:
        print(json_text.dumps(_arrow(frame).to_pylist(), indent=1, allow_nan=False))
    elif csv:
        print(frame.to_csv(index=False, lineterminator="\n"), end="")
    elif parquet is not None:
        print(f"{len(frame)} rows written to {parquet}")
    else:
        _print_table(frame, title, none)


def _arrow(frame: "pd.DataFrame") -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


def _write_parquet(frame: "pd.DataFrame", place: str) -> None:
    import pyarrow.parquet as pq

    path = storage_path(place)
    if isinstance(path, Path) and path.is_dir():
        raise ConfigError(f"{path} is a folder: give the name of a file, such as frontier.parquet.")
    if path.suffix.lower() != ".parquet":
        raise ConfigError(
            f"--parquet writes parquet, but got {path.name!r}: name it *.parquet, or take --csv or --json."
        )
    stream = io.BytesIO()
    pq.write_table(_arrow(frame), stream, compression="zstd", write_page_checksum=True)
    replace(path, stream.getvalue())


def _print_table(frame: "pd.DataFrame", title: str, none: str) -> None:
    """The columns that people want; on a narrow terminal the state gives way, then the drop; no cell is cut."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if frame.empty:
        console.print(Text(f"{title}: {none}."), soft_wrap=True)
        return
    console.print(Text(title, style="table.title"), soft_wrap=True)  # the path in it is not broken
    records = _arrow(frame).to_pylist()
    columns = [c for c in _COLUMNS if c.shown(records)]
    table, needed = _table(columns, records)
    if needed > console.width:
        table, needed = _table([c for c in columns if c.name != "accuracy_drop"], records)
    Console(highlight=False, width=max(console.width, needed)).print(table)


def _table(columns: "Sequence[_Column]", records: list[dict[str, Any]]) -> "tuple[Table, int]":
    """With the width that it needs at least."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for column in columns:
        table.add_column(
            column.head,
            justify="right" if column.number else "left",
            no_wrap=column.name != "state",
            overflow="fold",
        )
    for record in records:
        table.add_row(*(Text(column.text(record)) for column in columns))
    wide = Console(highlight=False, width=WIDEST)
    return table, Measurement.get(wide, wide.options, table).minimum


class _Column:
    """One column of the printed table, made from one column of the frame, under the name that the catalog gives it."""

    def __init__(
        self, name: str, *, number: Callable[[Any], str] | None = None, text: Callable[[Any], str] = str
    ) -> None:
        self.name = name
        self.head = COLUMNS[name].brief
        self.number = number is not None
        self._form = number or text

    def shown(self, records: list[dict[str, Any]]) -> bool:
        """Whether the table has this column: optional ones need something to say."""
        if self.name == "state":
            return any(r.get("state", "complete") != "complete" for r in records)
        if self.name == "test_accuracy":
            return any(r.get("test_accuracy") is not None for r in records)
        if self.name in {"accuracy_sd", "accuracy_drop"}:
            return any(r.get(self.name) is not None for r in records)
        if self.name == "p_non_dominated":
            return any((r.get("repeats") or 0) > 1 for r in records)
        return self.name in records[0]

    def text(self, record: dict[str, Any]) -> str:
        """The cell."""
        value = record.get(self.name)
        if self.name == "state" and record.get("reason"):
            value = textwrap.shorten(record["reason"], REASON_CHARS, placeholder="…")
        if self.name == "accuracy_sd" and value is not None:
            return _spread(record["accuracy_mean"], value)
        if self.name == "test_accuracy" and record.get("test_accuracy_sd") is not None:
            return _spread(record["test_accuracy_mean"], record["test_accuracy_sd"])
        return ABSENT if value is None else self._form(value)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARS else f"{label[: LABEL_CHARS - 1]}…"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}%"


def _spread(mean: float, sd: float) -> str:
    return f"{100 * mean:.2f}±{100 * sd:.2f}%"


def _points(value: float) -> str:
    return f"{round(100 * value, 2) + 0.0:.2f}pp"  # no -0.00


def _number(name: str) -> _Column:
    """Returns the column of a measured number."""
    return _Column(name, number=_FORMS[COLUMNS[name].kind])


_FORMS: dict[Kind, Callable[[Any], str]] = {
    "share": _percent,
    "points": _points,
    "chance": "{:.2f}".format,
    "ratio": "{:.1f}x".format,
    **dict.fromkeys(("bytes", "count", "seconds"), "{:,.0f}".format),
    "number": "{:,.6g}".format,
}
"""How cells are written, by the kind of their column in the catalog."""
_COLUMNS = (
    _Column("label", text=_short),
    *map(_number, ("accuracy", "accuracy_drop")),
    _Column("accuracy_sd", number=str),
    *map(_number, ("p_non_dominated", "test_accuracy", "size_bytes", "compression_ratio")),
    *map(_number, ("trials", "training_s", "hypervolume")),
    _Column("state"),
    _Column("trial_id"),
)
