"""Rows for people or for programs: a table on the terminal, JSON, CSV, or a parquet file."""

import io
import json as json_text
import textwrap
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from trainables.errors import ConfigError
from trainables.printable import printable
from trainables.results import METRICS
from trainables.storage import refuse_folder, replace, storage_path
from tune_app.tables.columns import COLUMNS
from tune_app.terminal.quantities import show_count, show_number, show_points, show_ratio, show_share, show_spread
from tune_app.terminal.table import ABSENT, make_table, widths

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LABEL_CHARS = 28
"""The longest label that the table shows whole. More: fewer are cut; less: the table fits a narrower terminal."""
REASON_CHARS = 60
"""How much of the reason for a missing result the table shows; JSON, CSV and parquet have it whole, in `reason`."""

PRUNED = 0.05
"""How far a ratio to the pruned network in fp32 is from the one to the whole network, in a row at least, so that the
table shows both: less says nothing new."""


def write_frame(frame: "pd.DataFrame", *, json: bool, csv: bool, parquet: str | None, title: str, none: str) -> None:
    """Prints rows with columns of the trials table, or writes them to a parquet file, by path or URI, in one step.

    JSON and CSV go to standard output alone; a missing value is null, or empty. The table that people read is headed by
    `title`, and `none` is what they read where there is no row.

    Raises:
        ConfigError: JSON and CSV at once, or the file's name is a folder's or that of another format.
        StorageUnavailable: the file cannot be written.
    """
    if json and csv:
        raise ConfigError("JSON and CSV both go to standard output: choose one of the two.")
    if parquet is not None:
        _write_parquet(frame, parquet)
    if json:
        print(json_text.dumps(rows_of(frame), indent=1, allow_nan=False))
    elif csv:
        print(frame.to_csv(index=False, lineterminator="\n"), end="")
    elif parquet is not None:
        print(f"{show_count(len(frame), 'row')} written to {parquet}")
    else:
        _print_table(frame, title, none)


def rows_of(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Returns the rows as JSON values; a missing one is None."""
    rows: list[dict[str, Any]] = _arrow(frame).to_pylist()
    return rows


def _arrow(frame: "pd.DataFrame") -> "pa.Table":
    """Returns the rows in types that know a missing integer from a missing float."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


def _write_parquet(frame: "pd.DataFrame", place: str) -> None:
    """Writes the rows in one step, or refuses the place."""
    import pyarrow.parquet as pq

    path = storage_path(place)
    refuse_folder(path, such_as="frontier.parquet")
    if path.suffix.lower() != ".parquet":
        raise ConfigError(
            f"--parquet writes parquet, but got {path.name!r}: name it *.parquet, or take --csv or --json."
        )
    stream = io.BytesIO()
    pq.write_table(_arrow(frame), stream, compression="zstd", write_page_checksum=True)
    replace(path, stream.getvalue())


def _print_table(frame: "pd.DataFrame", title: str, none: str) -> None:
    """Prints the columns that people want; on a narrow terminal the state is folded, then some are left out."""
    console, title = Console(highlight=False), printable(title)
    if frame.empty:
        console.print(Text(f"{title}: {printable(none)}."), soft_wrap=True)
        return
    console.print(Text(title, style="table.title"), soft_wrap=True)  # the path in it is not broken
    records = rows_of(frame)
    objectives = [name for name in METRICS if name not in _COLUMNS and f"{name}_mean" in frame]
    wanted = [*_COLUMNS[:_OBJECTIVES], *objectives, *_COLUMNS[_OBJECTIVES:]]
    columns = [name for name in wanted if _is_shown(name, records)]
    for left_out in range(len(_DISPENSABLE) + 1):
        names = [name for name in columns if name not in _DISPENSABLE[:left_out]]
        rows = [[_cell(name, record) for name in names] for record in records]
        heads = [COLUMNS[name].brief for name in names]
        table = make_table(heads, rows, left=("label", "state", "trial id"), breakable=("state",))
        needed = widths(table).minimum
        if needed <= console.width:
            break
    Console(highlight=False, width=max(console.width, needed)).print(table)
    if "p_non_dominated" in names:
        head = COLUMNS["p_non_dominated"].brief
        console.print(f"{head}: how likely the point is on the frontier, by the spread of runs", soft_wrap=True)


def _is_shown(name: str, records: list[dict[str, Any]]) -> bool:
    """Whether the table has a column: optional ones need something to say."""
    if name == "state":
        return any(r.get("state", "complete") != "complete" for r in records)
    if name == "sparsity_reached":
        return any(r.get("stopped_early") for r in records)
    if name == "pruned_compression_ratio":
        return any(r.get(name) and abs(r[name] / r["compression_ratio"] - 1) > PRUNED for r in records)
    if name == "p_non_dominated":
        return any((r.get("repeats") or 0) > 1 for r in records)
    if name in {"accuracy_sd", "accuracy_drop", "test_accuracy"}:
        return any(r.get(name) is not None for r in records)
    return name in records[0]


def _cell(name: str, record: dict[str, Any]) -> str:
    """Returns the value of a column as people write it, with the mean of several runs where there are some."""
    value = record.get(name)
    if name == "state" and record.get("reason"):
        return textwrap.shorten(record["reason"], REASON_CHARS, placeholder="…")
    if name == "sparsity_reached" and value is not None:
        return f"{show_share(value)} of {show_share(record['sparsity_requested'])}"
    if name == "accuracy_sd" and value is not None:
        return show_spread(record["accuracy_mean"], value)
    if name == "test_accuracy" and record.get("test_accuracy_sd") is not None:
        return show_spread(record["test_accuracy_mean"], record["test_accuracy_sd"])
    if value is None:
        return ABSENT
    if name == "label" and len(value) > LABEL_CHARS:
        return f"{value[: LABEL_CHARS - 1]}…"
    return _FORMS.get(COLUMNS[name].kind, str)(value)


_FORMS: dict[str, Callable[[Any], str]] = {
    "share": show_share,
    "points": partial(show_points, signed=False),
    "chance": "{:.2f}".format,
    "ratio": show_ratio,
    **dict.fromkeys(("bytes", "count", "seconds"), "{:,.0f}".format),
    "number": show_number,
}
"""How values are written, by the kind of their column in the catalog; others are written as they are."""
_COLUMNS = (
    *("label", "accuracy", "accuracy_drop", "accuracy_sd", "p_non_dominated", "test_accuracy", "size_bytes"),
    *("compression_ratio", "pruned_compression_ratio", "sparsity_reached"),
    *("trials", "training_s", "hypervolume", "state", "trial_id"),
)
"""The columns of the table, in their order."""
_DISPENSABLE = ("pruned_compression_ratio", "accuracy_drop")
"""Columns that a narrow terminal does without, the first one first: others say nearly the same."""
_OBJECTIVES = _COLUMNS.index("trials")
"""Where objectives stand that are none of these."""
