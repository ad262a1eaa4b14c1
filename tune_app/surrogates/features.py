"""Features: what a surrogate sees of the points of a space."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces.parameters import Parameter, Value
from search_spaces.space import SearchSpace


def features(space: SearchSpace, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
    """Turns points of a space into (n, d) numbers in [0, 1]: ordered parameters by their place, names one by one.

    A number that is none of the values lies between its neighbors. A parameter that a point lacks stands in the middle,
    and a flag says so.
    """
    columns: list[Sequence[float] | np.ndarray] = []
    for name, parameter in space.root.items():
        found = [point.get(name) for point in points]
        if parameter.ordered:
            columns.append(_places(parameter, found))
        else:
            columns += [[float(v == value) for v in found] for value in parameter.values]
        if space.conditional:
            columns.append([float(v is None) for v in found])
    return np.array(columns, dtype=np.float64).T.reshape(len(points), len(columns))


def _places(parameter: Parameter, found: Sequence[Value | None]) -> np.ndarray:
    last = max(1, len(parameter.values) - 1)
    numbers = np.array([math.nan if v is None or isinstance(v, str) else v for v in found], dtype=np.float64)
    places = np.interp(numbers, np.array(parameter.values, dtype=np.float64), np.arange(len(parameter.values)) / last)
    return np.where(np.isnan(numbers), 0.5, places)
