"""Questions to an experiment: its trials as a data frame, filtered by an SQL condition.

The condition is a filter and nothing else. DuckDB parses it, and only a tree of known expressions over the table's
own columns is run, in a database that can reach neither files nor network.

DuckDB's own lockdown was weighed instead of the look at the tree: no external access, no file systems, a locked
configuration, one SELECT statement. It has no list of allowed functions and lets 15 of the 60 hostile conditions of
the tests pass, such as subqueries, settings and regular expressions. So it stays the second wall.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from cluster.errors import first_line
from trainables.errors import ConfigError, CorruptFile, nearest
from trainables.storage import StoragePath
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tables.at_rest import TableFile, current_table, known_trials
from tune_app.tables.units import without_units

MAX_WHERE = 10_000
"""Characters that a condition may have; more would only let a program nest or repeat what a person never writes."""
TIME_LIMIT_S = 10.0
"""What a condition may take; a million trials take hundredths of a second (`benchmarks.query`): more is a mistake."""
SORT = "size_bytes"
"""The column that orders the rows when no other is named: a frontier reads from the smallest network upward."""
CLOSE, SHOWN = 0.7, 3
"""How like each other two names are that one may stand for the other, and how many are proposed."""
LIST = "the first line of `tune-app frontier EXPERIMENT --all --csv` names all columns, docs/columns.md explains them."
EXAMPLE = 'Write a condition such as "accuracy > 0.9 and size_bytes < 300000".'

CLASSES = {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "TYPE"}
OPERATORS = {"COMPARE_IN", "COMPARE_NOT_IN"} | {f"OPERATOR_{n}" for n in ("COALESCE", "IS_NOT_NULL", "IS_NULL", "NOT")}
ARITHMETIC = {"+", "-", "*", "/", "//", "%", "**", "^", "||"}
LIKE = {"~~", "!~~", "~~*", "!~~*", "~~~", "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"}
FUNCTIONS = (
    "abs, ceil, contains, ends_with, exp, floor, greatest, isfinite, isnan, least, length, ln, log10, log2, lower, "
    "nullif, round, sqrt, starts_with, upper"
)
TYPES = "BIGINT, BOOLEAN, DECIMAL, DOUBLE, FLOAT, INTEGER, VARCHAR"
TYPE_ALIASES = {"bool": "BOOLEAN", "int": "INTEGER", "real": "FLOAT", "text": "VARCHAR"}


def frontier_frame(
    experiment: str | StoragePath, *, all: bool = False, where: str = "", sort: str = "", limit: int | None = None
) -> pd.DataFrame:
    """Returns rows of an experiment's table of trials, with the columns of docs/columns.md.

    Integer columns are pandas' nullable Int64, so that a missing value does not turn a count into a float.

    Args:
        experiment: the folder of an experiment, or its URI.
        all: every trial, not the frontier alone.
        where: an SQL condition over the columns, numbers with or without units (`90%`, `50KB`, `20x`); empty for none.
        sort: a column, or "-column" for falling order; missing values come last. Default: "size_bytes".
        limit: at most so many rows.

    Raises:
        ConfigError: the folder, the condition, the column or the limit is refused.
        CorruptFile: the stored spec is damaged.
    """
    if limit is not None and not 1 <= limit < 2**63:
        raise ConfigError(f"1 <= limit < 2**63 must hold, but got {limit}.")
    folder = ExperimentFolder.existing(experiment)
    options: dict[str, Any] = {"frontier": not all, "sort": sort or SORT, "limit": limit}
    found = _from_file(folder, where, **options)
    if found is None:
        found = select(known_trials(folder), where, **options)
    frame: pd.DataFrame = found.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def select(
    source: pa.Table | TableFile,
    where: str = "",
    *,
    frontier: bool = False,
    sort: str = "",
    limit: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> pa.Table:
    """Returns the rows of the table of trials, or of its file, that satisfy a condition; an empty one always holds.

    With `frontier` only rows on the frontier count. `sort` is a column, or "-column" for falling order, then by number;
    empty for no order. At most `limit` rows come, and after `time_limit_s` the query is given up.

    Raises:
        ConfigError: the text is no condition over the table's columns, uses something that is not allowed,
            fails on a value, or takes too long; there is no such column to sort by.
    """
    if len(where) > MAX_WHERE:
        raise ConfigError(f"a condition has at most {MAX_WHERE:,} characters, but got {len(where):,}.")
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", where):
        raise ConfigError(f"a condition must not hold control characters, but got {where[:60]!r}.")
    columns = source.columns if isinstance(source, TableFile) else source.column_names
    condition = without_units(where) if where.strip() else "true"
    parts = [_statement(condition), "AND on_frontier" if frontier else "", _order(sort, columns)]
    query = "\n".join([*parts, "" if limit is None else f"LIMIT {limit}"])
    with _connected(source) as connection:
        _check(connection, condition, columns)
        return _run(connection, query, condition, time_limit_s)


def _from_file(folder: ExperimentFolder, where: str, **options: Any) -> pa.Table | None:
    """Answers straight from trials.parquet; None when the file is not current, not whole, or DuckDB could take its
    path for a pattern."""
    with contextlib.suppress(CorruptFile):
        if (file := current_table(folder)) and not re.search(r"[*?[]", str(file.path.absolute())):
            file.check()
            return select(file, where, **options)
    return None


@contextlib.contextmanager
def _connected(source: pa.Table | TableFile) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens a database that holds `trials` and reaches nothing else."""
    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as connection:
        if isinstance(source, TableFile):
            path = _quoted(str(source.path.absolute()), "'")
            connection.execute(f"SET allowed_paths = [{path}]")
            content = f"read_parquet({path}, hive_partitioning = false)"
            connection.execute(f"CREATE VIEW trials AS SELECT * FROM {content}")
        else:
            connection.register("trials", source)
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        yield connection


def _order(sort: str, columns: list[str]) -> str:
    """Returns the ORDER BY of a query; empty for none."""
    if not sort:
        return ""
    descending, column = sort.startswith("-"), sort.removeprefix("-")
    if column not in columns:
        raise ConfigError(f"cannot sort by {column!r}: {_nearest(column, columns)}")
    return f"ORDER BY {_quoted(column, chr(34))} {'DESC' if descending else 'ASC'} NULLS LAST, number"


def _quoted(text: str, quote: str) -> str:
    """Returns a text as SQL has it between quotes."""
    return quote + text.replace(quote, 2 * quote) + quote


def _statement(where: str, *, depth: int = 1) -> str:
    """Returns a SELECT with the condition on lines of its own: a comment in it ends before the parentheses do."""
    return f"SELECT * FROM trials WHERE {'(' * depth}\n{where}\n{')' * depth}"


def _run(connection: duckdb.DuckDBPyConnection, query: str, where: str, time_limit_s: float) -> pa.Table:
    """Runs a query within a time."""
    timer = threading.Timer(time_limit_s, connection.interrupt)
    timer.start()
    try:
        return connection.sql(query).to_arrow_table()
    except duckdb.InterruptException as err:
        raise ConfigError(f"{_shown(where)} took longer than {time_limit_s:g} s: simplify the condition.") from err
    except duckdb.Error as err:
        raise ConfigError(f"{_shown(where)} does not work here: {_message(err)}. {EXAMPLE}") from err
    finally:
        timer.cancel()


def _check(connection: duckdb.DuckDBPyConnection, where: str, columns: list[str]) -> None:
    """Refuses whatever is not `SELECT * FROM trials WHERE <harmless expression>`.

    Beside its condition, the statement must have the tree of the plainest one. A clause that escapes one pair of
    parentheses is a syntax error inside two; this also meets clauses that leave no trace in the tree, such as WINDOW.
    """
    tree, plain = _parse(connection, _statement(where), where), _parse(connection, _statement("true"), where)
    _parse(connection, _statement(where, depth=2), where)
    condition, _ = (statement["node"].pop("where_clause", None) for statement in (tree, plain))
    if tree != plain:
        raise ConfigError(f"{_shown(where)} is more than a condition. {EXAMPLE}")
    for problem in filter(None, (_problem(expression, columns) for expression in _expressions(condition))):
        raise ConfigError(f"{_shown(where)}: {problem}")


def _parse(connection: duckdb.DuckDBPyConnection, query: str, where: str) -> dict[str, Any]:
    """Returns the syntax tree of the one statement, by DuckDB's own parser; nothing is run."""
    try:
        [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
        tree = json.loads(text)
    except (duckdb.Error, ValueError) as err:
        raise ConfigError(f"{_shown(where)} is no condition: {_message(err)}. {EXAMPLE}") from err
    except RecursionError as err:
        raise ConfigError(f"{_shown(where)} is nested too deeply: simplify the condition.") from err
    if tree["error"]:
        raise ConfigError(f"{_shown(where)} is no condition: {first_line(tree['error_message'])}. {EXAMPLE}")
    statement, *more = tree["statements"]
    if more:
        raise ConfigError(f"{_shown(where)} is more than a condition. {EXAMPLE}")
    return dict(statement)


def _expressions(tree: Any) -> Iterator[dict[str, Any]]:
    """Yields every expression of a syntax tree, wherever it stands in it."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "class" in item:
                yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _problem(expression: dict[str, Any], columns: list[str]) -> str:
    """Says why an expression is refused, and the way out; empty when it is allowed."""
    kind = expression["class"]
    if kind not in CLASSES and not (kind == "OPERATOR" and expression["type"] in OPERATORS):
        name = expression["type"] if kind == "OPERATOR" else kind
        return f"{name.lower().replace('_', ' ')} is not allowed in a condition. {EXAMPLE}"
    if kind == "COLUMN_REF":
        return _column_problem(expression["column_names"], columns)
    if kind == "FUNCTION":
        name = expression["function_name"].lower()
        extras = any(expression.get(key) for key in ("schema", "catalog", "filter", "distinct", "export_state"))
        known = name in {*ARITHMETIC, *LIKE, *FUNCTIONS.split(", ")}
        if not known or extras or expression.get("order_bys", {}).get("orders"):
            return f"the function {name!r} is not allowed here; allowed: {FUNCTIONS}, arithmetic and LIKE."
    if kind == "CAST":
        named, bare = expression.get("type_expr") or {}, expression.get("cast_type") or {}
        name = named.get("type_name") or bare.get("id") or "?"
        if TYPE_ALIASES.get(name.lower(), name.upper()) not in TYPES.split(", "):
            return f"a cast to {name} is not allowed here; allowed: {TYPES}."
    return ""


def _column_problem(path: list[str], columns: list[str]) -> str:
    """Says why a name stands for no column, and which one was perhaps meant; empty when it stands for one."""
    own = path[1:] if len(path) > 1 and path[0].lower() == "trials" else path
    name = ".".join(own)
    spelled = {column.lower(): column for column in columns}.get(name.lower())
    if spelled is not None:
        return "" if len(own) == 1 else f'a name with a dot needs double quotes: write "{spelled}".'
    text = "" if _close(name, columns) else f"if it is a text, write it in single quotes, '{name}'; "
    return f"there is no column {name!r}: {text}{_nearest(name, columns)}"


def _nearest(name: str, columns: list[str]) -> str:
    """Returns a question with the columns that a name is close to, and where all of them are listed."""
    close = [repr(column) for column in _close(name, columns)]
    return f"did you mean {' or '.join(close)}? {LIST[0].upper()}{LIST[1:]}" if close else LIST


def _close(name: str, columns: list[str]) -> list[str]:
    """Returns the column that is spelled most like a name, or else a few that hold it, as size_bytes holds size."""
    spelled = nearest(name.lower(), columns, cutoff=CLOSE)
    parts = [c for c in columns if len(name) >= 3 and name.lower() in c]
    return [spelled] if spelled else sorted(parts, key=len)[:SHOWN]


def _shown(where: str) -> str:
    """Returns the condition on one line, cut to what an error message can carry."""
    text = " ".join(where.split())
    return f"the condition {text if len(text) <= 80 else text[:77] + '...'!r}"


def _message(err: Exception) -> str:
    """Returns DuckDB's message without its name of the error, its candidates and its drawing of the place."""
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", first_line(err)).split(". Use TRY")[0].rstrip(". ")
