"""Counting: how many points a space has, also where parameters depend on others, without walking over them."""

from collections.abc import Mapping

from search_spaces.parameters import Conditional, Parameter, Value, is_active


class Counting:
    """Counts the ways to go on from the first values of a point.

    They depend on the conditions of later parameters alone, which tell few of the values apart: each case is counted
    once.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = list(parameters.items())
        conditions = [(i, p.when) for i, (_, p) in enumerate(self._parameters) if isinstance(p, Conditional)]
        self._later = [[when for i, when in conditions if i >= place] for place in range(len(self._parameters) + 1)]
        self._known: dict[tuple[int, tuple[bool, ...]], int] = {}

    def ways(self, place: int, point: Mapping[str, Value]) -> int:
        """Returns the number of ways to go on from the parameter at a place, where `point` has the values before it."""
        held = tuple(point.get(name) in values for when in self._later[place] for name, values in when.items())
        if (place, held) not in self._known:
            self._known[place, held] = self._counted(place, point)
        return self._known[place, held]

    def _counted(self, place: int, point: Mapping[str, Value]) -> int:
        if place == len(self._parameters):
            return 1
        name, parameter = self._parameters[place]
        if not is_active(parameter, point):
            return self.ways(place + 1, point)
        if not any(name in when for when in self._later[place + 1]):
            return len(parameter.values) * self.ways(place + 1, point)
        return sum(self.ways(place + 1, {**point, name: value}) for value in parameter.values)
