"""Axis: what a column is divided by along an axis, how its ticks are written, and whether it is logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.tables.columns import SHARES, TITLES, direction

LOG_SPAN = 10.0
"""An axis of bytes or counts whose values span more than this is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """An axis for one column: what it is divided by, how ticks are written, and whether it is logarithmic."""

    metric: str
    direction: Direction
    title: str
    divisor: float
    tickformat: str
    log: bool

    def scaled(self, value: float) -> float:
        """A value in the axis' unit; six digits say more than any pixel."""
        return float(f"{value / self.divisor:.6g}")

    def layout(self) -> dict[str, Any]:
        """The axis in plotly's terms."""
        arrow = {"maximize": "higher is better", "minimize": "lower is better"}[self.direction]
        found: dict[str, Any] = {
            "title": {"text": f"{self.title} · {arrow}"},
            "tickformat": self.tickformat,
            "automargin": True,
        }
        # Of the digits of a decade, 1, 2 and 5 are written.
        return found | ({"type": "log", "dtick": "D2"} if self.log else {})


def axis_of(name: str, spec: ExperimentSpec, values: Sequence[float]) -> Axis:
    """The axis that suits these values."""
    title, divisor, tickformat = TITLES[name], 1.0, ""
    if name in SHARES:
        tickformat = ".2~%"
    elif name == "compression_ratio":
        tickformat = "~g"
    else:
        unit, divisor = _unit(max(map(abs, values), default=0.0), "B" if name.endswith("_bytes") else "")
        title, tickformat = f"{title}{f' ({unit})' if unit else ''}", ",~r"
    return Axis(
        metric=name,
        direction=direction(name, spec),
        title=title,
        divisor=divisor,
        tickformat=tickformat,
        log=is_log(name, values),
    )


def is_log(name: str, values: Sequence[float]) -> bool:
    """Whether these values are easier to tell apart on a logarithmic axis."""
    positive = name not in SHARES and bool(values) and min(values) > 0
    return positive and max(values) / min(values) > LOG_SPAN


def _unit(largest: float, base: str) -> tuple[str, float]:
    """A power of ten that leaves numbers of one to five digits before the point."""
    words = {0: base, 3: f"K{base}", 6: f"M{base}", 9: f"G{base}", 12: f"T{base}"} if base else _COUNTS
    power = 3 * min(4, max(0, math.floor((math.log10(largest) - 1) / 3))) if largest > 0 else 0
    return words[power], 10.0**power


_COUNTS = {0: "", 3: "thousands", 6: "millions", 9: "billions", 12: "trillions"}
