"""The tables by name, and what a frontier in them is made of."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.search.fitted import whole_space
from benchmarks.search.table import Table, load_table
from search_spaces.rungs import FULL
from trainables.results import METRICS
from tune_app.spec.yaml_file import parse_spec

HERE = Path(__file__).parent


class Source(NamedTuple):
    """Where a table comes from."""

    spec: str
    """A file beside this one."""
    trials: str
    """What its search wrote, a file among the results."""
    other_network: str = ""
    """The table of another network with the same parameters, if there is one."""
    sampled: bool = False
    """The trials are a sample of the space, and models of them foretell all others."""


TABLES = {
    "digits": Source("table.yaml", "search_table.parquet", other_network="ResNet-8"),
    "ResNet-8": Source("resnet8.yaml", "search_resnet8.parquet", other_network="digits"),
    "ResNet-8, mixed": Source("mixed.yaml", "search_mixed.parquet", sampled=True),
}
OBJECTIVES = {
    "bytes": ("accuracy", "size_bytes"),
    "bops": ("accuracy", "bops"),
    "memory": ("accuracy", "size_bytes", "peak_activation_bytes"),
}
"""What a frontier is made of, by name."""
MODELED = sorted({metric for names in OBJECTIVES.values() for metric in names})
"""What is modeled of a space of which a sample was evaluated."""


def open_table(name: str, objectives: str) -> Table:
    """One of TABLES, judged by OBJECTIVES; nobody wants what costs as much as 8 bits without pruning."""
    table, names = whole_table(name), OBJECTIVES[objectives]
    full = [cell.row for (_, rung), cell in table.cells.items() if rung == FULL and cell.row["state"] == "complete"]
    corner = {metric: table.reference.get(metric, max(float(row[metric]) for row in full)) for metric in names}
    judged = table.spec.model_copy(update={"objectives": {metric: METRICS[metric].better for metric in names}})
    return replace(table, spec=judged, reference=corner)


@cache
def whole_table(name: str) -> Table:
    """All points of one of TABLES."""
    return whole_space(read_table(name), MODELED) if TABLES[name].sampled else read_table(name)


@cache
def read_table(name: str) -> Table:
    """The trials of one of TABLES; its checkpoint and its images need not be there."""
    source = TABLES[name]
    spec = parse_spec((HERE / source.spec).read_text(encoding="utf-8"), source=source.spec)
    return load_table(HERE.parent / "results" / source.trials, spec)
