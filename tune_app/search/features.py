"""Features: what a surrogate sees of the points of a space."""

from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces.parameters import Parameter, Value
from search_spaces.space import SearchSpace


def features(space: SearchSpace, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
    """Turns points of a space into (n, d) numbers in [0, 1]: ordered parameters by their place, names one by one.

    A number that is none of the values lies between its neighbors. A parameter that a point lacks stands in the middle,
    and a flag says so.
    """
    columns = []
    for name, parameter in space.root.items():
        found = [point.get(name) for point in points]
        if parameter.ordered:
            columns.append(_places(parameter, found))
        else:
            columns += [[float(v == value) for v in found] for value in parameter.values]
        if space.conditional:
            columns.append([float(v is None) for v in found])
    return np.array(columns, dtype=np.float64).T.reshape(len(points), len(columns))


def _places(parameter: Parameter, found: Sequence[Value | None]) -> list[float]:
    values, last = parameter.values, max(1, len(parameter.values) - 1)
    places: dict[Value | None, float] = {value: i / last for i, value in enumerate(values)}

    def place(value: Value | None) -> float:
        if value is None or isinstance(value, str):
            return 0.5
        return float(np.interp(value, [float(v) for v in values], list(places.values())))

    return [places[value] if value in places else place(value) for value in found]
