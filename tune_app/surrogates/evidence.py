"""Evidence: the trials that the surrogates of a search learn from."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from search_spaces.parameters import Coordinates, coordinates
from search_spaces.rungs import FULL
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import pareto_ranks
from tune_app.ledger.ledger import Params
from tune_app.spec.experiment import ExperimentSpec
from tune_app.surrogates.features import features
from tune_app.surrogates.surrogate import Surrogate

MOST_LEARNED = 200
"""Trials that the surrogates learn from: a proposal takes time with the square of their number."""
MOST_ADVISED = 100
"""Trials of another base that they learn from beside those."""
ADVICE = ""
"""What the surrogates take for one more rung, below all others."""
Item = TypeVar("Item")


class Seen(NamedTuple):
    """A trial that was measured."""

    params: Params
    row: np.ndarray
    """(d,) features of its point."""
    rung: str
    metrics: Mapping[str, float]
    costs: np.ndarray
    """(k,) of the objectives, lower is better."""


class Evidence:
    """What is known of points, for a surrogate of each metric that the spec judges by.

    Advice, full trials of another base, is one more rung below all others: how far it agrees is learned.
    """

    def __init__(self, spec: ExperimentSpec, reference: Mapping[str, float]) -> None:
        self._spec, self._reference = spec, reference
        self._seen: dict[tuple[Coordinates, str], Seen] = {}
        self._advice: dict[Coordinates, Seen] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    @property
    def is_advised(self) -> bool:
        """Whether there are trials of another base."""
        return bool(self._advice)

    @property
    def trials(self) -> list[Seen]:
        """Every trial that was measured, the newest last."""
        return list(self._seen.values())

    @functools.cached_property
    def rungs(self) -> list[str]:
        """The rungs that the surrogates tell apart, the full schedule last."""
        return [*([ADVICE] if self._advice else []), *self._spec.rungs]

    @functools.cached_property
    def surrogates(self) -> dict[str, Surrogate]:
        """The surrogate of each metric; all advice comes before they are asked for."""
        return {name: self._surrogate(name) for name in self._spec.metrics}

    def add(self, params: Params, rung: str, metrics: Mapping[str, float]) -> Seen:
        """Takes a trial that was measured, and returns what is known of it."""
        found = self._seen[coordinates(params), rung] = self._as_seen(params, rung, metrics)
        return found

    def advise(self, params: Params, metrics: Mapping[str, float]) -> None:
        """Takes a full trial of another base."""
        self._advice[coordinates(params)] = self._as_seen(params, ADVICE, metrics)

    def teach(self, running: np.ndarray) -> None:
        """Teaches the surrogates the trials that have ended, and those that run, whose (m, d) features are given."""
        advice = _spread(list(self._advice.values()), MOST_ADVISED)
        trials = [*advice, *self._worth_learning()]
        rows = np.stack([trial.row for trial in trials])
        rungs = np.array([self.rungs.index(trial.rung) for trial in trials])
        for name, surrogate in self.surrogates.items():
            values = np.array([trial.metrics[name] for trial in trials])
            surrogate.fit(rows, rungs, values, advised=len(advice))
            if len(running):
                surrogate.believe(running)

    def _surrogate(self, metric: str) -> Surrogate:
        direction = self._spec.objectives.get(metric)
        corner = None if direction is None else self._reference[metric]
        return Surrogate(metric, rungs=len(self.rungs), corner=corner, larger_is_better=direction != "minimize")

    def _as_seen(self, params: Params, rung: str, metrics: Mapping[str, float]) -> Seen:
        [row] = features(self._spec.space, [params])
        return Seen(params, row, rung, metrics, costs_of(metrics, self._spec))

    def _worth_learning(self) -> Sequence[Seen]:
        """Returns all trials, or a part where there are many.

        Two thirds are those of the full schedule that fewest others dominate; the others are spread over all the rest.
        """
        found = self.trials
        if len(found) <= MOST_LEARNED:
            return found
        full = [i for i, trial in enumerate(found) if trial.rung == FULL]
        ranks = pareto_ranks(np.array([found[i].costs for i in full]).reshape(-1, len(self._spec.objectives)))
        best = {full[i] for i in np.argsort(ranks, kind="stable")[: 2 * MOST_LEARNED // 3]}
        rest = [i for i in range(len(found)) if i not in best]
        return [found[i] for i in sorted(best | set(_spread(rest, MOST_LEARNED - len(best))))]


def _spread(found: list[Item], most: int) -> list[Item]:
    """Returns all of a list, or a part that is spread over it."""
    return found if len(found) <= most else [found[i] for i in np.linspace(0, len(found) - 1, most).astype(int)]
