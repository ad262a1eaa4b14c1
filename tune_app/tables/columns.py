"""The catalog of columns: what each column of a table holds, what it is called, and how its values are written.

Its lines stand in columns.toml. A measurement that gets a line there is in the tables, in queries, in the report, and
on the page docs/columns.md.
"""

import itertools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from typing import Any, Literal

import pyarrow as pa

from trainables.results import METRICS
from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.terminal.quantities import show_points, show_ratio, show_share, show_size

Kind = Literal[
    "text", "time", "flag", "id", "count", "bytes", "share", "points", "chance", "ratio", "seconds", "number", "any"
]
KINDS: dict[Kind, pa.DataType | None] = {
    **dict.fromkeys(("text", "time"), pa.string()),
    "flag": pa.bool_(),
    **dict.fromkeys(("id", "count", "bytes"), pa.int64()),
    **dict.fromkeys(("share", "points", "chance", "ratio", "seconds", "number"), pa.float64()),
    "any": None,
}
"""The type of each kind of values in a file; None where the values decide it, those of a parameter.

An `id` is an integer that names something, `points` are a difference of two shares, a `chance` is a probability.
"""


@dataclass(frozen=True)
class Column:
    """One line of the catalog; columns.toml says what each field is."""

    section: str
    """Where it stands in the catalog, and on the page docs/columns.md."""
    name: str
    kind: Kind
    title: str
    head: str
    brief: str
    page: Literal["column", "detail", ""] = ""
    meaning: str = ""
    members: Mapping[str, str] = field(default_factory=dict)
    """Of a family whose members are known: what each means, by what stands for the word in angle brackets."""

    @property
    def type(self) -> pa.DataType | None:
        """The type of its values in a file; None for a parameter."""
        return KINDS[self.kind]

    @property
    def word(self) -> str:
        """The word in angle brackets of a family's name; empty for a single column."""
        return self.name.partition("<")[2].partition(">")[0]

    def member(self, value: str) -> "Column":
        """Returns the column of a family in which this value stands for the word."""
        word = f"<{self.word}>"
        return replace(self, name=self.name.replace(word, value), head=self.head.replace(word, value), members={})


def _column(section: str, line: Mapping[str, Any]) -> Column:
    """Reads a line: the head of a column is its name, its title and its brief name are its head, unless given."""
    head = line.get("head", line["name"])
    return Column(section, **{"head": head, "title": head, "brief": head, **line})


CATALOG = {
    section: tuple(_column(section, line) for line in lines)
    for section, lines in tomllib.loads((files("tune_app.tables") / "columns.toml").read_text("utf-8")).items()
}
"""The catalog by the sections of docs/columns.md."""
TRIALS = tuple(
    column
    for section in ("trial", "measured", "stages", "together", "sizes", "formulas", "cost")
    for column in CATALOG[section]
)
"""Columns of the tables of trials, in their order."""


def expanded(columns: Iterable[Column], values: Mapping[str, Iterable[str]]) -> Iterator[Column]:
    """Yields single columns in their order: in the place of a family one for each of the values of its word.

    Families of one word that follow each other take turns: mean and deviation of one objective, then of the next.
    """
    for word, found in itertools.groupby(columns, key=lambda column: column.word):
        family = list(found)
        yield from (column.member(value) for value in values[word] for column in family) if word else family


_of_metrics = expanded((column for column in TRIALS if column.word == "objective"), {"objective": METRICS})
COLUMNS = {column.name: column for column in (*CATALOG["growth"], *TRIALS, *_of_metrics)}
"""Columns of the tables of trials and of the frontier's growth by name, families and means of metrics among them."""


_FORMS: dict[str, Callable[[float], str]] = {
    "share": show_share,
    "points": partial(show_points, signed=False),
    "bytes": show_size,
    "ratio": show_ratio,
}


def show(name: str, value: float) -> str:
    """Writes a value as people do: `97.77 %`, `296 KB`, `10.3x`, `1,644,048`."""
    if form := _FORMS.get(COLUMNS[name].kind):
        return form(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def short(name: str) -> str:
    """Returns the head of a column, and of any other column, such as a parameter's, its name."""
    return COLUMNS[name].head if name in COLUMNS else name


def direction(name: str, spec: ExperimentSpec) -> Direction:
    """Returns which way of a metric is better: the one that the spec asks for, or else its natural one."""
    return spec.objectives.get(name, METRICS[name].better)
