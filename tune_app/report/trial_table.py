"""The table of trials as columns: what the page sorts, filters and says of a point."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tune_app.report.contents import Contents
from tune_app.tables.columns import short
from tune_app.tables.trial_rows import STAGED

Kind = Literal["text", "number", "share", "bytes", "ratio", "seconds", "flag", "time"]
Cell = float | int | str | None


@dataclass(frozen=True)
class Column:
    """One column; an unshown one is part of what is said of a chosen trial.

    `values` are one for each row. Of a text column with few different values, `names` are these, and values places
    in it.
    """

    name: str
    title: str
    kind: Kind
    shown: bool
    values: tuple[Cell, ...]
    names: tuple[str, ...] = ()


def trial_columns(contents: Contents) -> list[Column]:
    """The columns that say something, in the order in which people look for them."""
    params = list(contents.spec.space.root)
    plan: list[tuple[str, str, Kind, bool]] = [
        ("label", "trial", "text", True),
        ("state", "state", "text", True),
        ("rung", "rung", "text", len(contents.spec.rungs) > 1),
        ("on_frontier", "frontier", "flag", True),
        *((name, short(name), _param_kind(name, contents), True) for name in params),
        ("accuracy", "accuracy", "share", True),
        ("size_bytes", "size", "bytes", True),
        ("compression_ratio", "ratio", "ratio", True),
        ("test_accuracy", "test accuracy", "share", True),
        ("accuracy_mean", "mean accuracy", "share", _repeated(contents)),
        ("accuracy_sd", "± accuracy", "share", _repeated(contents)),
        ("test_accuracy_mean", "mean test accuracy", "share", _repeated(contents)),
        ("test_accuracy_sd", "± test accuracy", "share", _repeated(contents)),
        ("repeats", "runs", "number", _repeated(contents)),
        ("p_non_dominated", "p on frontier", "number", _repeated(contents)),
        ("seconds", "time", "seconds", True),
        ("reason", "reason", "text", True),
        ("feasible", "feasible", "flag", bool(contents.spec.constraints)),
        *((name, short(name), "number", name in contents.spec.objectives) for name in ("parameters", "macs", "bops")),
        ("activation_bytes", "activations", "bytes", "activation_bytes" in contents.spec.objectives),
        ("peak_activation_bytes", "peak activations", "bytes", "peak_activation_bytes" in contents.spec.objectives),
        ("accuracy_drop", short("accuracy_drop"), "share", False),
        *((name, short(name), "flag" if name == "stopped_early" else "share", False) for name in STAGED),
        ("prune_frac_achieved", "pruned", "share", False),
        ("sparsity_achieved", "sparsity", "share", "sparsity_achieved" in contents.spec.objectives),
        ("stages_cached", "cached stages", "number", False),
        ("seed", "seed", "text", False),
        ("attempt", "attempt", "number", False),
        ("started_at", "started (UTC)", "time", False),
        ("trial_id", "trial id", "text", False),
    ]
    found = (_column(contents, *column) for column in plan)
    return [column for column in found if _says_something(column)]


def _column(contents: Contents, name: str, title: str, kind: Kind, shown: bool) -> Column:
    found = (
        map(contents.label, range(len(contents.rows))) if name == "label" else (row.get(name) for row in contents.rows)
    )
    values = tuple(_cell(value, kind) for value in found)
    names = _few([value for value in values if isinstance(value, str)]) if kind == "text" else ()
    if names:
        place = {value: i for i, value in enumerate(names)}
        values = tuple(place[value] if isinstance(value, str) else None for value in values)
    return Column(name, title, kind, shown, values, names)


def _cell(value: Any, kind: Kind) -> Cell:
    """A value as JSON writes it shortly."""
    if value is None or value == "":
        return None
    if kind == "text":
        return str(value)
    if kind == "time":
        return str(value)[:19].replace("T", " ")
    if kind == "flag":
        return int(value)
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _few(values: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(values))
    return names if 2 * len(names) <= len(values) else ()


def _says_something(column: Column) -> bool:
    if column.name in {"reason", "test_accuracy", "p_non_dominated", "accuracy_drop", *STAGED}:
        return any(value is not None for value in column.values)
    if column.name in {"accuracy_mean", "accuracy_sd", "repeats"}:
        return column.shown
    if column.name in {"test_accuracy_mean", "test_accuracy_sd"}:
        return column.shown and any(value is not None for value in column.values)
    return True


def _param_kind(name: str, contents: Contents) -> Kind:
    if any(isinstance(value, str) for value in contents.spec.space.root[name].values):
        return "text"
    return "number"


def _repeated(contents: Contents) -> bool:
    return any(record.assignment.repeat for record in contents.records)


def packed(columns: Iterable[Column]) -> list[dict[str, Any]]:
    """As JSON for the page."""
    return [
        {
            "name": column.name,
            "title": column.title,
            "kind": column.kind,
            "shown": column.shown,
            "values": list(column.values),
            **({"names": list(column.names)} if column.names else {}),
        }
        for column in columns
    ]
