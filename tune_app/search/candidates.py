"""Candidates: the points that a proposal chooses from, each with what a surrogate sees of it and what it computes."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.rungs import FULL
from search_spaces.samplers import shuffled_grid
from search_spaces.space import SearchSpace
from tune_app.ledger.ledger import Params
from tune_app.search.strategy import KeyOf, Step, StepsOf
from tune_app.surrogates.features import features

MOST = 500
"""Points that are compared for a proposal: more find better ones in a large space, and take longer to predict."""
FRESH = 8
"""Points that a proposal draws anew from a large space: more look at more of it, and each has to be priced."""


@dataclass(frozen=True)
class Candidate:
    """A point that may be proposed."""

    params: Params
    key: str
    """Of its configuration: several points may have the same one."""
    row: np.ndarray
    """(d,) features."""
    steps: Sequence[Step]
    """What a trial of it with the full schedule needs."""


class Candidates:
    """All configurations of a small space; of a large one a sample, of which the best stay and the others are replaced.

    `named` points are there too, always, and may lie beside the grid.
    """

    def __init__(
        self, space: SearchSpace, key_of: KeyOf, steps_of: StepsOf, *, named: Sequence[Params] = (), seed: int = 0
    ) -> None:
        self._space, self._key_of, self._steps_of = space, key_of, steps_of
        self._random = random.Random(seed)
        self._whole = space.size <= MOST
        self._found: dict[str, Candidate] = {}
        self._walk = iter(()) if self._whole else shuffled_grid.make(space, seed)
        self._add(named)
        self._named = set(self._found)
        self._add(space.grid() if self._whole else self._drawn(MOST // 2))

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._found.values())

    def take(self, points: Iterable[Params]) -> None:
        """Takes these points too; one outside the space is left out."""
        if not self._whole:
            self._add(point for point in points if self._space.contains(point))

    def look_near(self, params: Params) -> None:
        """Takes the points that differ from a good one by one place of one parameter."""
        self.take(_neighbors(params, self._space))

    def renew(self, best: Sequence[Candidate], busy: Collection[str]) -> None:
        """Keeps the best candidates, the first ones given, those whose keys are busy now, and the named; draws others.

        Nothing changes where all points of the space are there.
        """
        if not self._whole:
            held = [candidate for candidate in self if candidate.key in busy or candidate.key in self._named]
            self._found = {candidate.key: candidate for candidate in [*held, *best[: MOST - FRESH]]}
            self._add(self._drawn(FRESH))

    def next_of_all(self, is_open: Callable[[Params, str], bool]) -> list[Candidate]:
        """Returns the next open point of a walk over the whole space, in random order, as the only one; or none.

        It is for a space of which so much has run, or is refused, that draws find nothing new. A point is open by
        itself and its key. What was passed is not met again.
        """
        params = next((params for params in self._walk if is_open(params, self._key_of(params))), None)
        if params is None:
            return []
        self._add([params])
        return [self._found[self._key_of(params)]]

    def _drawn(self, count: int) -> list[Params]:
        return [self._space.point(self._random.randrange(self._space.size)) for _ in range(count)]

    def _add(self, points: Iterable[Params]) -> None:
        new: dict[str, Params] = {}
        for point in points:
            key = self._key_of(point)
            if key not in self._found:
                new.setdefault(key, point)
        rows = features(self._space, list(new.values()))
        for (key, params), row in zip(new.items(), rows, strict=True):
            self._found[key] = Candidate(params, key, row, self._steps_of(params, FULL))


def _neighbors(params: Params, space: SearchSpace) -> list[Params]:
    found = []
    for name, value in params.items():
        values = space.root[name].values if name in space.root else ()
        if value in values:
            place = values.index(value)
            found += [{**params, name: values[i]} for i in (place - 1, place + 1) if 0 <= i < len(values)]
    return found
