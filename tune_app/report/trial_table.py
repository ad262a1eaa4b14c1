"""The table of trials as columns: what the page sorts, filters and says of a point."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from trainables.results import SCORES
from tune_app.drawing.palette import CYCLE
from tune_app.frontier.points import MAIN
from tune_app.report.contents import Contents
from tune_app.tables.columns import CATALOG, COLUMNS, Column, Kind, expanded, short

PageKind = Literal["text", "number", "share", "points", "bytes", "ratio", "seconds", "flag", "time"]
PAGE_KINDS: dict[Kind, PageKind] = {
    **{"text": "text", "id": "text", "number": "number", "count": "number", "chance": "number", "time": "time"},
    **{"share": "share", "points": "points", "bytes": "bytes", "ratio": "ratio", "seconds": "seconds", "flag": "flag"},
}
"""How the page writes each kind of the catalog."""
RUNS = ("accuracy_mean", "accuracy_sd", "test_accuracy_mean", "test_accuracy_sd", "repeats", "p_non_dominated")
ORDER = (
    *("label", "state", "rung", "on_frontier", "<parameter>", *MAIN, "test_accuracy", *RUNS, "seconds", "reason"),
    *("feasible", "measured", "accuracy_drop", "stages", "prune_frac_achieved", "sparsity_achieved", "stages_cached"),
    *("seed", "attempt", "started_at", "trial_id"),
)
"""Columns in the order in which people look for them; a section of the catalog stands for its other columns."""
OPTIONAL = {
    *("reason", "test_accuracy_mean", "test_accuracy_sd", "p_non_dominated", "accuracy_drop"),
    *(f"test_{name}" for name in SCORES),
    *SCORES[1:],
}
"""Columns that are left out where no trial has a value; so are those of the section `stages`."""
Cell = float | int | str | None


@dataclass(frozen=True)
class PageColumn:
    """One column of the page's table; one that is not shown is part of what is said of a chosen trial.

    `values` are one for each row. Of a text column with few different values, `names` are these, and values places
    in it.
    """

    name: str
    title: str
    kind: PageKind
    shown: bool
    values: tuple[Cell, ...]
    names: tuple[str, ...] = ()


def trial_columns(contents: Contents) -> list[PageColumn]:
    """Returns the columns that say something, in the order in which people look for them."""
    words, listed = {"parameter": contents.spec.space.root}, list[Column]()
    for name in ORDER:
        others = (column for column in CATALOG.get(name, ()) if column.page and column.name not in ORDER)
        listed += [COLUMNS[name]] if name in COLUMNS else others
    return [found for column in expanded(listed, words) if (found := _page_column(contents, column)) is not None]


def _page_column(contents: Contents, column: Column) -> PageColumn | None:
    """Returns a column with its values, or None where it says nothing."""
    name, spec, rows = column.name, contents.spec, contents.rows
    repeated = column.section != "together" or any(record.assignment.repeat for record in contents.records)
    wanted = {"rung": len(spec.rungs) > 1, "feasible": bool(spec.constraints)}.get(name, repeated)
    shown = name in spec.objectives or (column.page == "column" and wanted)
    kind = PAGE_KINDS.get(column.kind, "number")
    if column.kind == "any" and any(isinstance(value, str) for value in spec.space.root[name].values):
        kind = "text"
    if name in {"accuracy_mean", "accuracy_sd"}:
        kind = "share"
    found = map(contents.label, range(len(rows))) if name == "label" else (row.get(name) for row in rows)
    values = tuple(_cell(value, kind) for value in found)
    silent = (name in OPTIONAL or column.section == "stages") and all(value is None for value in values)
    if silent or (not repeated and name != "p_non_dominated"):
        return None
    texts = [value for value in values if isinstance(value, str)] if kind == "text" else []
    names = tuple(dict.fromkeys(texts))
    # Places save nothing where most values occur once; points are colored by them where a palette is too small.
    if 2 * len(names) > len(texts) and (name not in spec.space.root or len(names) <= len(CYCLE)):
        names = ()
    if names:
        place = {value: i for i, value in enumerate(names)}
        values = tuple(place[value] if isinstance(value, str) else None for value in values)
    return PageColumn(name, short(name), kind, shown, values, names)


def _cell(value: Any, kind: PageKind) -> Cell:
    """Returns a value as JSON writes it shortly."""
    if value is None or value == "":
        return None
    if kind == "text":
        return str(value)
    if kind == "time":
        return str(value)[:19].replace("T", " ")
    if kind == "flag":
        return int(value)
    return value if isinstance(value, int) else float(f"{value:.6g}")


def packed(columns: Iterable[PageColumn]) -> list[dict[str, Any]]:
    """Returns columns as JSON for the page."""
    return [{name: value for name, value in vars(column).items() if name != "names" or value} for column in columns]
