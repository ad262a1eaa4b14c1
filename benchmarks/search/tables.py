"""The tables by name, and what a frontier in them is made of."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
    other_network: str
    """The table of another network with the same parameters."""


TABLES = {
    "digits": Source("table.yaml", "search_table.parquet", other_network="ResNet-8"),
    "ResNet-8": Source("resnet8.yaml", "search_resnet8.parquet", other_network="digits"),
}
OBJECTIVES = {
    "bytes": ("accuracy", "size_bytes"),
    "bops": ("accuracy", "bops"),
    "memory": ("accuracy", "size_bytes", "peak_activation_bytes"),
}
"""What a frontier is made of, by name."""


def open_table(name: str, objectives: str) -> Table:
    """One of TABLES, judged by OBJECTIVES; nobody wants what costs as much as 8 bits without pruning."""
    table, names = read_table(name), OBJECTIVES[objectives]
    full = [cell.row for (_, rung), cell in table.cells.items() if rung == FULL and cell.row["state"] == "complete"]
    corner = {metric: table.reference.get(metric, max(float(row[metric]) for row in full)) for metric in names}
    judged = table.spec.model_copy(update={"objectives": {metric: METRICS[metric].better for metric in names}})
    return replace(table, spec=judged, reference=corner)


@cache
def read_table(name: str) -> Table:
    """The trials of one of TABLES; its checkpoint and its images need not be there."""
    source = TABLES[name]
    spec = parse_spec((HERE / source.spec).read_text(encoding="utf-8"), source=source.spec)
    return load_table(HERE.parent / "results" / source.trials, spec)
