"""Candidates: the points that a proposal chooses from, each with what a surrogate sees of it and what it computes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.rungs import FULL
from search_spaces.samplers import shuffled_grid
from search_spaces.space import SearchSpace
from tune_app.ledger.ledger import Params
from tune_app.search.keys import Coordinates, coordinates
from tune_app.search.strategy import Step, StepsOf
from tune_app.search.surrogate import features

MOST = 500
"""Points that are compared for a proposal: more find better ones in a large space, and take longer to predict."""
FRESH = 8
"""Points that a proposal draws anew from a large space: more look at more of it, and each has to be priced."""


@dataclass(frozen=True)
class Candidate:
    """A point that may be proposed."""

    params: Params
    point: Coordinates
    row: np.ndarray
    """(d,) features."""
    steps: Sequence[Step]
    """What a trial of it with the full schedule needs."""


class Candidates:
    """All points of a small space; of a large one a sample, of which the best stay and the others are replaced."""

    def __init__(self, space: SearchSpace, steps_of: StepsOf, rng: np.random.Generator) -> None:
        self._space, self._steps_of, self._rng = space, steps_of, rng
        self._whole = space.size <= MOST
        self._found: dict[Coordinates, Candidate] = {}
        self._walk = iter(()) if self._whole else shuffled_grid.make(space, int(rng.integers(2**31)))
        self._add(space.grid() if self._whole else self._drawn(MOST // 2))

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._found.values())

    def take(self, points: Iterable[Params]) -> None:
        """Takes these points too; one outside the space is left out."""
        if not self._whole:
            self._add(points)

    def look_near(self, params: Params) -> None:
        """Takes the points that differ from a good one by one place of one parameter."""
        self.take(_neighbors(params, self._space))

    def renew(self, best: Sequence[Candidate], busy: Collection[Coordinates]) -> None:
        """Keeps the best candidates, the first ones given, and those that are busy now; draws a few others.

        Nothing changes where all points of the space are there.
        """
        if not self._whole:
            held = [candidate for candidate in self if candidate.point in busy]
            self._found = {candidate.point: candidate for candidate in [*held, *best[: MOST - FRESH]]}
            self._add(self._drawn(FRESH))

    def next_of_all(self, is_open: Callable[[Coordinates], bool]) -> list[Candidate]:
        """Returns the next open point of a walk over the whole space, in random order, as the only one; or none.

        It is for a space of which so much has run that draws find nothing new. What was passed is not met again.
        """
        params = next((params for params in self._walk if is_open(coordinates(params))), None)
        if params is None:
            return []
        self._add([params])
        return [self._found[coordinates(params)]]

    def _drawn(self, count: int) -> list[Params]:
        return [self._space.point(int(i)) for i in self._rng.integers(self._space.size, size=count)]

    def _add(self, points: Iterable[Params]) -> None:
        new = {coordinates(p): p for p in points if self._space.contains(p)}
        new = {point: params for point, params in new.items() if point not in self._found}
        rows = features(self._space, list(new.values()))
        for (point, params), row in zip(new.items(), rows, strict=True):
            self._found[point] = Candidate(params, point, row, self._steps_of(params, FULL))


def _neighbors(params: Params, space: SearchSpace) -> list[Params]:
    found = []
    for name, value in params.items():
        values = space.root[name].values
        if value in values:
            place = values.index(value)
            found += [{**params, name: values[i]} for i in (place - 1, place + 1) if 0 <= i < len(values)]
    return found
