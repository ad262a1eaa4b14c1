"""SearchSpace: named parameters, and what each of them changes in a trial's configuration."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import RootModel, ValidationError, model_validator

from search_spaces.counting import Counting
from search_spaces.parameters import Conditional, Parameter, Value, is_active
from search_spaces.presets import PRESETS
from trainables.config import ALIASES, GROUPS, TrialConfig, in_words
from trainables.errors import ConfigError, InfeasiblePoint, did_you_mean

MAX_CORNERS = 16
"""Corners that come first: all of up to four parameters; of more a sample, so that the sampler has a budget left."""

TRAINING = ("epochs", "lr", "batch_size", "weight_decay")
"""What of a stage's training a parameter may change: `ft_lr` after channel pruning, `sparsify_lr`, `qat_lr`."""
# Where a parameter goes: the path of its field in TrialConfig. A new parameter is one more line.
FIELDS: dict[str, tuple[str, ...]] = {
    "prune_frac": ("prune", "prune_frac"),
    "importance": ("prune", "importance"),
    "sparsity": ("sparsify", "sparsity"),
    **{name: ("quantize", "scheme", name) for name in ("w_bits", "a_bits", "edge_bits", "residual_bits")},
    **{name: ("quantize", "scheme", name) for name in ("granularity", "observer")},
    "budget_bytes": ("quantize", "auto_bits", "budget_bytes"),
    **{f"ft_{field}": ("prune", "fine_tune", field) for field in TRAINING},
    **{f"sparsify_{field}": ("sparsify", "schedule", field) for field in TRAINING},
    **{f"qat_{field}": ("quantize", "schedule", field) for field in TRAINING},
    **{f"w_bits.{group}": ("quantize", "scheme", "w_bits_by_group", group) for group in (*GROUPS, *ALIASES)},
    **{f"a_bits.{group}": ("quantize", "scheme", "a_bits_by_group", group) for group in (*GROUPS, *ALIASES)},
}
TOGETHER: dict[str, tuple[str, ...]] = {
    "w_bits.all": ("w_bits", "w_bits.first_conv", "w_bits.classifier"),
    "a_bits.all": ("a_bits", "residual_bits", "a_bits.classifier"),
}
"""Parameters that set several others to one value: every weight, and every activation."""


class SearchSpace(RootModel[dict[str, Parameter]]):
    """The points a search may try: the product of its parameters' values. A text is the name of a preset."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, content: Any) -> Any:
        if not isinstance(content, str):
            return content
        if content not in PRESETS:
            raise ValueError(f"unknown space {content!r}; known: {', '.join(PRESETS)}")
        return dict(PRESETS[content].space)

    @model_validator(mode="after")
    def _known(self) -> "SearchSpace":
        if not self.root:
            raise ValueError("the search space must not be empty: name at least one parameter")
        for name in self.root:
            if name not in FIELDS and name not in TOGETHER:
                raise ValueError(f"unknown parameter {name!r}; {_hint(name)}")
        for whole, parts in TOGETHER.items():
            twice = [p for p in parts if p in self.root] if whole in self.root else []
            if twice:
                raise ValueError(f"{whole} sets {twice[0]} too: leave one of the two out")
        for name in self.root:
            self._check_condition(name)
        return self

    def _check_condition(self, name: str) -> None:
        parameter = self.root[name]
        before = list(self.root)[: list(self.root).index(name)]
        for other, values in parameter.when.items() if isinstance(parameter, Conditional) else ():
            if other not in before:
                raise ValueError(f"{name} depends on {other}: a parameter of that name must stand before it")
            foreign = [v for v in values if v not in self.root[other].values]
            if foreign:
                raise ValueError(f"{name} depends on {other} = {foreign[0]!r}, which is none of its values")

    @property
    def size(self) -> int:
        """The number of points in the space."""
        return Counting(self.root).ways(0, {})

    def active(self, point: Mapping[str, Value]) -> list[str]:
        """Returns the names of the parameters that a point with these values has."""
        return [name for name, parameter in self.root.items() if is_active(parameter, point)]

    @property
    def conditional(self) -> bool:
        """Whether some points have fewer parameters than others."""
        return any(isinstance(p, Conditional) for p in self.root.values())

    def grid(self) -> Iterator[dict[str, Value]]:
        """Returns every point in order, the last parameter changing fastest."""
        return self._walk({}, list(self.root))

    def point(self, index: int) -> dict[str, Value]:
        """Returns the point at this place of the grid, without walking to it."""
        point: dict[str, Value] = {}
        if not self.conditional:
            for name, parameter in reversed(self.root.items()):
                index, place = divmod(index, len(parameter.values))
                point[name] = parameter.values[place]
            return dict(reversed(point.items()))
        counting = Counting(self.root)
        for place, (name, parameter) in enumerate(self.root.items(), start=1):
            if not is_active(parameter, point):
                continue
            for value in parameter.values:
                point[name] = value
                below = counting.ways(place, point)
                if index < below:
                    break
                index -= below
        return point

    def corners(self, seed: int) -> list[dict[str, Value]]:
        """Returns points where every parameter is at an end, at most MAX_CORNERS of them, in a seeded order.

        A frontier runs between corners, and few samplers try them early: on three parameters a grid in
        random order, which meets them by chance, beats random sampling (benchmark in the design notes).
        """
        ends: dict[str, Any] = {}
        for name, parameter in self.root.items():
            both = list(dict.fromkeys((parameter.values[0], parameter.values[-1])))
            if not isinstance(parameter, Conditional):
                ends[name] = both
                continue
            when = {n: [v for v in values if v in _values(ends.get(n))] for n, values in parameter.when.items()}
            if all(when.values()):
                ends[name] = {"of": both, "when": when}
        corners = SearchSpace.model_validate(ends)
        chosen = random.Random(seed).sample(range(corners.size), k=min(corners.size, MAX_CORNERS))
        return [corners.point(i) for i in chosen]

    def contains(self, params: Mapping[str, Value]) -> bool:
        """Whether a point of another run lies in this space."""
        return set(params) == set(self.active(params)) and all(v in self.root[n].values for n, v in params.items())

    def _walk(self, point: dict[str, Value], names: list[str]) -> Iterator[dict[str, Value]]:
        if not names:
            yield dict(point)
            return
        first, *rest = names
        if not is_active(self.root[first], point):
            yield from self._walk(point, rest)
            return
        for value in self.root[first].values:
            yield from self._walk({**point, first: value}, rest)

    def check(self, base: TrialConfig) -> None:
        """Raises ConfigError, with parameter, value and rule, for a space with a value that no trial could have."""
        for name, parameter in self.root.items():
            for value in parameter.values:
                try:
                    to_trial({name: value}, base)
                except InfeasiblePoint as err:
                    raise ConfigError(f"space.{name}: {err}") from err

    def check_point(self, point: Mapping[str, Value], base: TrialConfig) -> None:
        """Raises ConfigError, with parameter and rule, for a point that no trial could have, on the grid or off it."""
        missing = [name for name in self.active(point) if name not in point]
        if missing:
            raise ConfigError(f"a point has a value for every parameter of the space: {missing[0]} is missing, add it.")
        for name, value in point.items():
            if name not in self.root:
                raise ConfigError(f"{name!r} is no parameter of the space: add it there, or leave it out here.")
            if name not in self.active(point):
                raise ConfigError(f"{name!r} depends on parameters with other values than these: leave it out.")
            try:
                to_trial({name: value}, base)
            except InfeasiblePoint as err:
                raise ConfigError(f"{name}: {err}") from err


def to_trial(params: Mapping[str, Value], base: TrialConfig) -> TrialConfig:
    """Returns the configuration of one point: the base with the point's values put in their fields.

    Raises:
        InfeasiblePoint: a value is out of its field's range.
        ConfigError: a parameter changes a part that the base leaves out.
    """
    content = base.model_dump()
    for name, value in params.items():
        for part in TOGETHER.get(name, (name,)):
            _set(content, name, FIELDS[part], value)
    try:
        return TrialConfig.model_validate(content)
    except ValidationError as err:
        problem = err.errors()[0]
        raise InfeasiblePoint(f"{problem['input']!r}: {in_words(problem)}") from err


def _set(content: dict[str, Any], name: str, path: tuple[str, ...], value: Value) -> None:
    *parents, field = path
    for depth, parent in enumerate(parents):
        content = content.get(parent)  # type: ignore[assignment]
        if content is None:
            missing = ".".join(parents[: depth + 1])
            raise ConfigError(f"space.{name} changes base.{missing}, which the spec leaves out: add it there.")
    content[field] = value


def _values(ends: Any) -> list[Value]:
    """Returns the values of a parameter of `corners` as it is written; none for one that no corner has."""
    return list(ends["of"] if isinstance(ends, dict) else ends or [])


def _hint(name: str) -> str:
    """Returns the nearest parameter name, or else all of them with the layer groups named once."""
    plain = [known for known in FIELDS if "." not in known]
    groups = ", ".join(["all", *GROUPS, *ALIASES])
    others = f"known: {', '.join(plain)}, w_bits.GROUP, a_bits.GROUP; groups: {groups}"
    return did_you_mean(name, [*FIELDS, *TOGETHER], otherwise=others)
