"""Constraint: a bound on a measured column, and what the values of such a column can be."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from trainables.config import Frozen, parsed
from trainables.errors import did_you_mean
from trainables.quantities import parse_ratio, parse_share, parse_size
from trainables.results import METRICS

PARSERS = {"share": parse_share, "bytes": parse_size, "ratio": parse_ratio}
"""By unit of a metric what reads a bound that is written with it."""


def metric_name(name: str) -> str:
    """Returns the name of a metric, or raises ValueError with all of them and the nearest."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS, before="; ")
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}{hint}")
    return name


def check_value(name: str, value: float) -> None:
    """Raises ValueError for a value that the metric never has, with the way to write what may be meant."""
    metric = METRICS[name]
    if value < 0:
        raise ValueError(f"{name} is never below 0, but got {value:g}")
    if value > metric.highest:
        percent = f": write {value / 100:g} or {value:g} %" if value <= 100 else ""
        raise ValueError(f"{name} lies between 0 and 1, but got {value:g}{percent}")


class Constraint(Frozen):
    """A bound on a measured column, written as "accuracy >= 0.93", "accuracy >= 93 %" or "size_bytes <= 50KB"."""

    metric: Annotated[str, AfterValidator(metric_name)] = Field(description="a measured column")
    sense: Literal["<=", ">="] = Field(description="which side of the bound is legal")
    bound: float = Field(description="a number in the column's unit")

    def violation(self, value: float) -> float:
        """Returns how far a value is outside; zero or less means feasible."""
        return value - self.bound if self.sense == "<=" else self.bound - value

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        return f"{self.metric} {self.sense} {short if float(short) == self.bound else self.bound}"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*(.*\S)\s*", text)
        if match is None:
            raise ValueError(f'{text!r} is no bound; write it like "accuracy >= 0.93"')
        return {"metric": match[1], "sense": match[2], "bound": _number(match[3], metric_name(match[1]))}

    @model_validator(mode="after")
    def _is_a_value(self) -> "Constraint":
        check_value(self.metric, self.bound)
        return self


def _number(text: str, metric: str) -> Any:
    """Reads a number that is written with the unit of its metric; any other text stays for pydantic to read."""
    parse = PARSERS.get(METRICS[metric].unit)
    return text if parse is None or re.fullmatch(r"[-+.\deE]+", text) else parsed(text, parse)


def check_together(constraints: Sequence[Constraint]) -> None:
    """Raises ValueError where two bounds of one metric leave no value between them."""
    for lower in (c for c in constraints if c.sense == ">="):
        for upper in (c for c in constraints if c.sense == "<=" and c.metric == lower.metric):
            if lower.bound > upper.bound:
                raise ValueError(f"no trial can meet both {lower} and {upper}: change one of them")
