"""Questions to an experiment: its trials as a data frame, filtered by an SQL condition.

The condition is a filter and nothing else. DuckDB parses it, and only a tree of known expressions over the
table's own columns is run, in a database that can reach neither files nor network.
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
from tune_app.tables.trials import TableFile, current_table, load_trials

MAX_WHERE = 10_000
TIME_LIMIT_S = 10.0
SORT = "size_bytes"
CLOSE, SHOWN = 0.7, 3
"""How like each other two names are that one may stand for the other, and how many are proposed."""
LIST = "the first line of `tune-app frontier EXPERIMENT --all --csv` names all columns, docs/columns.md explains them."
EXAMPLE = 'Write a condition such as "accuracy > 0.9 and size_bytes < 300000".'

CLASSES = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "OPERATOR",
    "TYPE",
}
OPERATORS = {
    "COMPARE_IN",
    "COMPARE_NOT_IN",
    "OPERATOR_COALESCE",
    "OPERATOR_IS_NOT_NULL",
    "OPERATOR_IS_NULL",
    "OPERATOR_NOT",
}
ARITHMETIC = {"+", "-", "*", "/", "//", "%", "**", "^", "||"}
LIKE = {"~~", "!~~", "~~*", "!~~*", "~~~", "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"}
FUNCTIONS = {
    "abs",
    "ceil",
    "contains",
    "ends_with",
    "exp",
    "floor",
    "greatest",
    "isfinite",
    "isnan",
    "least",
    "length",
    "ln",
    "log10",
    "log2",
    "lower",
    "nullif",
    "round",
    "sqrt",
    "starts_with",
    "upper",
}
TYPES = {"BIGINT", "BOOLEAN", "DECIMAL", "DOUBLE", "FLOAT", "INTEGER", "VARCHAR"}
TYPE_ALIASES = {"bool": "BOOLEAN", "int": "INTEGER", "real": "FLOAT", "text": "VARCHAR"}
PLAIN: dict[str, Any] = {
    "type": "SELECT_NODE",
    "modifiers": [],
    "cte_map": {"map": []},
    "group_expressions": [],
    "group_sets": [],
    "aggregate_handling": "STANDARD_HANDLING",
    "having": None,
    "sample": None,
    "qualify": None,
}
"""What a SELECT consists of besides its columns, its table and its condition, when it has nothing else."""


def frontier_frame(
    experiment: str | StoragePath, *, all: bool = False, where: str = "", sort: str = "", limit: int | None = None
) -> pd.DataFrame:
    """Rows of an experiment's table of trials; the columns are those of `rows.rows`.

    Integer columns are pandas' nullable Int64, so that a missing value does not turn a count into a float.

    Args:
        experiment: the folder of an experiment, or its URI.
        all: every trial, not the frontier alone.
        where: an SQL condition over the columns; empty for no condition.
        sort: a column, or "-column" for falling order; missing values come last. Default: "size_bytes".
        limit: at most so many rows.

    Raises:
        ConfigError: the folder, the condition, the column or the limit is refused.
        CorruptFile: the stored spec is damaged.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit >= 1 must hold, but got {limit}.")
    folder = ExperimentFolder.existing(experiment)
    found = _from_file(folder, where, frontier=not all, sort=sort, limit=limit)
    if found is None:
        table = load_trials(folder)
        found = select(table if all else table.filter(table["on_frontier"]), where, sort=sort or SORT, limit=limit)
    frame: pd.DataFrame = found.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def select(
    source: pa.Table | TableFile,
    where: str = "",
    *,
    frontier: bool = False,
    sort: str = "",
    limit: int | None = None,
    time_limit_s: float | None = None,
) -> pa.Table:
    """The rows of a table, or of its file, that satisfy a condition.

    Args:
        source: with the columns of `rows.rows`.
        where: the condition; empty for none.
        frontier: of the rows on the frontier alone.
        sort: a column, or "-column" for falling order, then by number; empty for no order.
        limit: at most so many rows.
        time_limit_s: instead of TIME_LIMIT_S.

    Raises:
        ConfigError: the text is no condition over the table's columns, uses something that is not allowed,
            fails on a value, or takes too long; there is no such column to sort by.
    """
    if len(where) > MAX_WHERE:
        raise ConfigError(f"a condition has at most {MAX_WHERE:,} characters, but got {len(where):,}.")
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", where):
        raise ConfigError(f"a condition must not hold control characters, but got {where[:60]!r}.")
    columns = source.columns if isinstance(source, TableFile) else source.column_names
    order = _order(sort, columns)
    with _connected(source) as connection:
        if where.strip():
            _check(connection, where, columns)
        query = _query(where, frontier=frontier, order=order, limit=limit)
        return _run(connection, query, where, TIME_LIMIT_S if time_limit_s is None else time_limit_s)


def _from_file(folder: ExperimentFolder, where: str, **options: Any) -> pa.Table | None:
    """Straight from trials.parquet, when it is current and whole."""
    file = current_table(folder)
    if file is None:
        return None
    try:
        file.check()
    except CorruptFile:
        return None
    return select(file, where, **{**options, "sort": options["sort"] or SORT})


@contextlib.contextmanager
def _connected(source: pa.Table | TableFile) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that holds `trials` and reaches nothing else."""
    config: dict[str, Any] = {"autoinstall_known_extensions": "false"}
    with duckdb.connect(":memory:", config=config) as connection:
        if isinstance(source, TableFile):
            path = _quoted(str(source.path.absolute()), "'")
            connection.execute(f"SET allowed_paths = [{path}]")
            connection.execute(f"CREATE VIEW trials AS SELECT * FROM read_parquet({path})")
        else:
            connection.register("trials", source)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def _order(sort: str, columns: list[str]) -> str:
    """The ORDER BY of a query; empty for none."""
    if not sort:
        return ""
    descending, column = sort.startswith("-"), sort.removeprefix("-")
    if column not in columns:
        raise ConfigError(f"cannot sort by {column!r}: {_nearest(column, columns)}")
    direction = "DESC" if descending else "ASC"
    return f"ORDER BY {_quoted(column, chr(34))} {direction} NULLS LAST, number"


def _query(where: str, *, frontier: bool, order: str, limit: int | None) -> str:
    parts = [_statement(where) if where.strip() else "SELECT * FROM trials WHERE true"]
    parts += ["AND on_frontier"] if frontier else []
    parts += [order] if order else []
    return "\n".join([*parts, *([f"LIMIT {limit}"] if limit is not None else [])])


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, 2 * quote) + quote


def _statement(where: str, *, open: str = "(", close: str = ")") -> str:
    """The condition stands on lines of its own, so that a comment in it ends before the parenthesis does."""
    return f"SELECT * FROM trials WHERE {open}\n{where}\n{close}"


def _run(connection: duckdb.DuckDBPyConnection, query: str, where: str, time_limit_s: float) -> pa.Table:
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

    A clause that escapes one pair of parentheses is a syntax error inside two; this also meets clauses that
    leave no trace in the tree, such as WINDOW.
    """
    statement = _parse(connection, _statement(where), where)
    _parse(connection, _statement(where, open="((", close="))"), where)
    node = statement.get("node", {})
    table, stars = node.get("from_table") or {}, node.get("select_list") or [{}]
    plain = (
        all(node.get(key, value) == value for key, value in PLAIN.items())
        and not statement.get("named_param_map")
        and [star.get("class") for star in stars] == ["STAR"]
        and (table.get("type"), table.get("table_name"), table.get("sample")) == ("BASE_TABLE", "trials", None)
        and node.get("where_clause") is not None
    )
    if not plain:
        raise ConfigError(f"{_shown(where)} is more than a condition. {EXAMPLE}")
    for expression in _expressions(node["where_clause"]):
        problem = _problem(expression, columns)
        if problem:
            raise ConfigError(f"{_shown(where)}: {problem}")


def _parse(connection: duckdb.DuckDBPyConnection, query: str, where: str) -> dict[str, Any]:
    """The statement's syntax tree, by DuckDB's own parser; nothing is run."""
    try:
        [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
        tree = json.loads(text)
    except (duckdb.Error, ValueError) as err:
        raise ConfigError(f"{_shown(where)} is no condition: {_message(err)}. {EXAMPLE}") from err
    except RecursionError as err:
        raise ConfigError(f"{_shown(where)} is nested too deeply: simplify the condition.") from err
    if tree.get("error", True):
        message = tree.get("error_message", "not readable").splitlines()[0]
        raise ConfigError(f"{_shown(where)} is no condition: {message}. {EXAMPLE}")
    if len(tree["statements"]) != 1:
        raise ConfigError(f"{_shown(where)} is more than a condition. {EXAMPLE}")
    statement: dict[str, Any] = tree["statements"][0]
    return statement


def _expressions(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression of a syntax tree, wherever it stands in it."""
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
    """Why an expression is refused, and the way out; empty when it is allowed."""
    kind = expression["class"]
    if kind not in CLASSES or (kind == "OPERATOR" and expression.get("type") not in OPERATORS):
        name = expression.get("type", kind) if kind == "OPERATOR" else kind
        return f"{str(name).lower().replace('_', ' ')} is not allowed in a condition. {EXAMPLE}"
    if kind == "COLUMN_REF":
        return _column_problem(expression["column_names"], columns)
    if kind == "FUNCTION":
        return _function_problem(expression)
    if kind == "CAST":
        return _cast_problem(expression)
    return ""


def _column_problem(path: list[str], columns: list[str]) -> str:
    known = {c.lower(): c for c in columns}
    own = path[1:] if len(path) > 1 and path[0].lower() == "trials" else path
    name = ".".join(own)
    spelled = known.get(name.lower())
    if spelled is not None:
        return "" if len(own) == 1 else f'a name with a dot needs double quotes: write "{spelled}".'
    text = "" if _close(name, columns) else f"if it is a text, write it in single quotes, '{name}'; "
    return f"there is no column {name!r}: {text}{_nearest(name, columns)}"


def _function_problem(call: dict[str, Any]) -> str:
    name = call["function_name"].lower()
    extras = any(call.get(key) for key in ("schema", "catalog", "filter", "distinct", "export_state"))
    if name in ARITHMETIC | LIKE | FUNCTIONS and not extras and not call.get("order_bys", {}).get("orders"):
        return ""
    return f"the function {name!r} is not allowed here; allowed: {', '.join(sorted(FUNCTIONS))}, arithmetic and LIKE."


def _cast_problem(cast: dict[str, Any]) -> str:
    name = (cast.get("type_expr") or {}).get("type_name") or (cast.get("cast_type") or {}).get("id") or "?"
    if TYPE_ALIASES.get(name.lower(), name.upper()) in TYPES:
        return ""
    return f"a cast to {name} is not allowed here; allowed: {', '.join(sorted(TYPES))}."


def _nearest(name: str, columns: list[str]) -> str:
    close = [repr(column) for column in _close(name, columns)]
    return f"did you mean {' or '.join(close)}? {LIST[0].upper()}{LIST[1:]}" if close else LIST


def _close(name: str, columns: list[str]) -> list[str]:
    """The column that is spelled most like it, or else a few that the name is a part of, or `size` of size_bytes."""
    spelled = nearest(name.lower(), columns, cutoff=CLOSE)
    parts = [c for c in columns if len(name) >= 3 and name.lower() in c]
    return [spelled] if spelled else sorted(parts, key=len)[:SHOWN]


def _shown(where: str) -> str:
    """The condition on one line, cut to what an error message can carry."""
    text = " ".join(where.split())
    return f"the condition {text if len(text) <= 80 else text[:77] + '...'!r}"


def _message(err: Exception) -> str:
    """DuckDB's message without its name of the error, its candidates and its drawing of the place."""
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", first_line(err)).split(". Use TRY")[0].rstrip(". ")
