"""The axis of a column in a figure: the unit of its ticks, and whether it is logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.tables.columns import COLUMNS, Column, direction

LOG_SPAN = 10.0
"""An axis of bytes or counts whose values span more than a decade is logarithmic: the small ones would be one spot."""
UNITS = {
    "bytes": {0: "B", 3: "KB", 6: "MB", 9: "GB", 12: "TB"},
    "count": {0: "", 3: "thousands", 6: "millions", 9: "billions", 12: "trillions"},
}
"""Names of powers of ten, by the kind of a column; other kinds are written as they are."""
TICKS = {"share": ".2~%", "ratio": "~g"}
"""Formats of ticks in plotly's terms, by the kind of a column."""


@dataclass(frozen=True)
class Axis:
    """An axis for the values of one metric."""

    metric: str
    direction: Direction
    log: bool
    unit: str = ""
    divisor: float = 1.0
    """How many of the column's units one unit of the axis is."""

    @property
    def column(self) -> Column:
        """The line of the catalog that says what is measured along the axis."""
        return COLUMNS[self.metric]

    @property
    def title(self) -> str:
        """The title at the axis: what is measured, with the unit."""
        return f"{self.column.title} ({self.unit})" if self.unit else self.column.title

    def scaled(self, value: float) -> float:
        """Returns a value in the axis' unit, with six digits: they say more than any pixel."""
        return float(f"{value / self.divisor:.6g}")

    def layout(self) -> dict[str, Any]:
        """Returns the axis in plotly's terms."""
        arrow = {"maximize": "higher is better", "minimize": "lower is better"}[self.direction]
        found = {"title": {"text": f"{self.title} · {arrow}"}, "tickformat": TICKS.get(self.column.kind, ",~r")}
        # Of the digits of a decade, 1, 2 and 5 are written.
        return found | {"automargin": True} | ({"type": "log", "dtick": "D2"} if self.log else {})


def axis_of(name: str, spec: ExperimentSpec, values: Sequence[float]) -> Axis:
    """Returns the axis that suits these values of a metric."""
    kind, way = COLUMNS[name].kind, direction(name, spec)
    positive = kind != "share" and bool(values) and min(values) > 0
    log = positive and max(values) / min(values) > LOG_SPAN
    if kind not in UNITS:
        return Axis(name, way, log)
    # The power of ten that leaves numbers of two to four digits before the point.
    largest = max(map(abs, values), default=0.0)
    power = 3 * min(4, max(0, math.floor((math.log10(largest) - 1) / 3))) if largest > 0 else 0
    return Axis(name, way, log, UNITS[kind][power], 10.0**power)
