"""Parameters: each is a finite list of values, ordered or not, written as a range or as a list.

A conditional one exists only where others have certain values: `{of: [l1, l2], when: {prune_frac: [0.3, 0.6]}}`.
"""

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, RootModel, Tag, model_validator

from trainables.config import UNIT, Frozen, refuse_flags

Value = Annotated[float | int | str, UNIT]
"""Numbers may be written with a unit: `30 %`, `50KB`."""
Coordinates = tuple[tuple[str, float | int | str], ...]
Bound = Annotated[int | float, UNIT, Field(ge=-1e12, le=1e12)]
MAX_VALUES = 10_000
"""Values of a parameter: far more than a search can tell apart, few enough to list them in memory."""


class Range(Frozen):
    """Every `step` from `low` to `high`, both included. Computed on an integer grid, so 0.3 stays 0.3."""

    ordered: ClassVar[bool] = True
    """A range has an order that samplers use."""
    low: Bound = Field(description="first value")
    high: Bound = Field(description="no value is larger")
    step: Annotated[int | float, UNIT] = Field(
        1, ge=1e-9, description="from one value to the next; 1 for whole numbers"
    )

    @model_validator(mode="after")
    def _legal(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, but got low {self.low} and high {self.high}")
        if (self.high - self.low) / self.step >= MAX_VALUES:
            raise ValueError(f"at most {MAX_VALUES:,} values may lie in a range: take a larger step")
        return self

    @property
    def values(self) -> tuple[Value, ...]:
        """The values in rising order."""
        return _grid(self.low, self.high, self.step)


@functools.lru_cache(maxsize=256, typed=True)
def _grid(low: float, high: float, step: float) -> tuple[Value, ...]:
    """Returns the values of a range, remembered, since samplers ask for them again and again."""
    count = math.floor((high - low) / step + 1e-9) + 1
    grid = [low + i * step for i in range(count)]
    whole = all(isinstance(v, int) for v in (low, step))
    return tuple(grid) if whole else tuple(round(v, 10) for v in grid)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Choices(RootModel[tuple[Value, ...]]):
    """A written list of values; numbers are sorted and count as ordered."""

    @model_validator(mode="before")
    @classmethod
    def _no_flags(cls, content: Any) -> Any:
        refuse_flags(content, "each value")
        return content

    @model_validator(mode="after")
    def _legal(self) -> "Choices":
        if not self.root:
            raise ValueError("the list of values must not be empty: name at least one value")
        if len(self.root) > MAX_VALUES:
            raise ValueError(f"at most {MAX_VALUES:,} values may be listed, but got {len(self.root):,}")
        if any(isinstance(v, float) and not math.isfinite(v) for v in self.root):
            raise ValueError("values must be finite numbers or names")
        if texts := [v for v in self.root if isinstance(v, str) and _is_number(v)]:
            raise ValueError(f"values must be numbers or names, but {texts[0]!r} is text: write it without quotes")
        if len(set(self.root)) < len(self.root):
            raise ValueError(f"values must differ, but got {list(self.root)}")
        return self

    @property
    def values(self) -> tuple[Value, ...]:
        """Numbers in rising order, names in the given order."""
        return _in_order(self.root, tuple(map(type, self.root))) or self.root

    @property
    def ordered(self) -> bool:
        """Numbers have an order, names do not."""
        return bool(_in_order(self.root, tuple(map(type, self.root))))


@functools.lru_cache(maxsize=256)
def _in_order(listed: tuple[Value, ...], kinds: tuple[type, ...]) -> tuple[Value, ...]:
    """Returns numbers in rising order, and nothing where there are names.

    Remembered, as the values of a range are, by the numbers and their types: (2, 4) and (2.0, 4.0) are equal.
    """
    return () if any(isinstance(value, str) for value in listed) else tuple(sorted(listed))


def _form(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "choices"


Values = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_form),
]


class Conditional(Frozen):
    """Values that a point has only where each parameter in `when` has one of the values listed for it."""

    of: Values = Field(description="the values, where there are some")
    when: dict[str, tuple[Value, ...]] = Field(
        min_length=1, description="values of other parameters, which stand before this one"
    )

    @property
    def values(self) -> tuple[Value, ...]:
        """The values where the condition holds."""
        return self.of.values

    @property
    def ordered(self) -> bool:
        """Whether these values have an order that samplers use."""
        return self.of.ordered


def _kind(value: Any) -> str:
    conditional = isinstance(value, Conditional) or (isinstance(value, dict) and "when" in value)
    return "conditional" if conditional else _form(value)


Parameter = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")] | Annotated[Conditional, Tag("conditional")],
    Discriminator(_kind),
]


def is_active(parameter: Parameter, point: Mapping[str, Value]) -> bool:
    """Whether a point with these values has the parameter."""
    return not isinstance(parameter, Conditional) or all(point.get(n) in v for n, v in parameter.when.items())


def coordinates(params: Mapping[str, Value]) -> Coordinates:
    """Returns the values of a point by name, in one order however they were given: `dict` makes a point of them."""
    return tuple(sorted(params.items()))
