"""The axis of a column in a figure: the unit of its ticks, and whether it is logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.tables.columns import COLUMNS, Column, direction

LOG_SPAN = 10.0
"""An axis of bytes or counts whose values span more than a decade is logarithmic: the small ones would be one spot."""
EDGE = 0.1
"""How far beyond the others a value is put that lies far outside, in parts of their span."""
UNITS = {
    "bytes": {0: "B", 3: "KB", 6: "MB", 9: "GB", 12: "TB"},
    "count": {0: "", 3: "thousands", 6: "millions", 9: "billions", 12: "trillions"},
}
"""Names of powers of ten, by the kind of a column; other kinds are written as they are."""
PERCENT = {"tickformat": ".2~f", "ticksuffix": " %"}
"""Ticks of an axis whose values are percents, in plotly's terms."""
TICKS = {"share": PERCENT, "ratio": {"tickformat": "~g"}}
"""Ticks in plotly's terms, by the kind of a column; those of other kinds are plain numbers."""


@dataclass(frozen=True)
class Axis:
    """An axis for the values of one metric; shares are drawn as percents."""

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
        """The title at the axis: what is measured, with the unit, and whether the axis is logarithmic."""
        return self.titled(self.column.title)

    def titled(self, name: str) -> str:
        """Returns a name of what is measured with the unit, and with the word that the axis is logarithmic."""
        if self.log:
            return f"{name} in {self.unit} (log scale)" if self.unit else f"{name} (log scale)"
        return f"{name} ({self.unit})" if self.unit else name

    def scaled(self, value: float) -> float:
        """Returns a value in the axis' unit, with six digits: they say more than any pixel."""
        return float(f"{value / self.divisor:.6g}")

    def placed(self, values: Sequence[float], among: Sequence[float]) -> list[float]:
        """Returns values in the axis' unit; one that lies far outside `among` is put at the edge of these.

        Far is more than their whole span: it would press them together where they cannot be told apart.
        """
        if not among:
            return [self.scaled(value) for value in values]
        low, high = self._height(min(among)), self._height(max(among))
        span = (high - low) or abs(high) or 1.0
        ends = [10.0**end if self.log else end for end in (low - EDGE * span, high + EDGE * span)]
        heights = map(self._height, values)
        return [
            self.scaled(value if low - span <= height <= high + span else ends[height > high])
            for value, height in zip(values, heights, strict=True)
        ]

    def _height(self, value: float) -> float:
        """Returns where a value lies along the axis, up to a factor; what has no logarithm lies below all others."""
        if not self.log:
            return value
        return math.log10(value) if value > 0 else -math.inf

    def layout(self) -> dict[str, Any]:
        """Returns the axis in plotly's terms."""
        arrow = {"maximize": "higher is better", "minimize": "lower is better"}[self.direction]
        ticks = TICKS.get(self.column.kind, {"tickformat": ",~r"})
        found = {"title": {"text": f"{self.title} · {arrow}"}, **ticks}
        # Of the digits of a decade, 1, 2 and 5 are written.
        return found | {"automargin": True} | ({"type": "log", "dtick": "D2"} if self.log else {})


def axis_of(name: str, spec: ExperimentSpec, values: Sequence[float]) -> Axis:
    """Returns the axis that suits these values of a metric."""
    kind, way = COLUMNS[name].kind, direction(name, spec)
    positive = kind != "share" and bool(values) and min(values) > 0
    log = positive and max(values) / min(values) > LOG_SPAN
    if kind not in UNITS:
        return Axis(name, way, log, divisor=0.01 if kind == "share" else 1.0)
    return Axis(name, way, log, *unit_of(kind, max(map(abs, values), default=0.0)))


def unit_of(kind: str, largest: float) -> tuple[str, float]:
    """Returns the unit of bytes or counts, and how many of them it is, that leaves two to four digits before the
    point of the largest value."""
    power = 3 * min(4, max(0, math.floor((math.log10(largest) - 1) / 3))) if largest > 0 else 0
    return UNITS[kind][power], 10.0**power
