"""Gains: what a full trial is expected to add to the hypervolume, under a surrogate of each metric."""

import functools
from collections.abc import Mapping

import numpy as np

from tune_app.frontier.hypervolume_gain import FreeSpace
from tune_app.frontier.pareto import costs
from tune_app.spec.experiment import ExperimentSpec
from tune_app.surrogates.surrogate import Surrogate

DRAWS = 16
"""Draws of each metric, whose combinations make an expected gain: more make it smoother and take longer."""
WIDTH = 1.4
"""Standard deviations of the draws, which have weights to match: so the few that gain most are among them."""
OUTCOMES, COMBINED = 8, 4_096
"""How many outcomes of a lower rung are thought through for each metric, and at most for all of them together."""


class ExpectedGains:
    """Mean improvements of a hypervolume, whose free space is given.

    The metrics are drawn apart from each other: a mean over all combinations of their draws is a sum, over the boxes of
    the free space, of products of one mean for each metric.
    """

    def __init__(self, spec: ExperimentSpec, surrogates: Mapping[str, Surrogate], space: FreeSpace) -> None:
        self._spec, self._surrogates, self._space = spec, surrogates, space
        self._objectives = list(spec.objectives)

    def in_full(self, rows: np.ndarray) -> np.ndarray:
        """Returns the (n,) mean improvements by trials of the full schedule at (n, d) rows; none is quite 0."""
        normal = WIDTH * _quantiles(DRAWS)
        weights = np.exp(-0.5 * normal**2 * (1.0 - WIDTH**-2))
        weights /= weights.sum()
        mean = np.ones((len(rows), 1))
        for name, surrogate in self._surrogates.items():
            mean = mean * self._factor(name, surrogate.draw(rows, normal), weights)
        gains: np.ndarray = mean.sum(axis=-1) + 1e-12
        return gains

    def after(self, row: np.ndarray, rung: int) -> np.ndarray:
        """Returns the (t,) mean improvements by a full trial of a (d,) row after the likely outcomes of a rung."""
        count = min(OUTCOMES, int(COMBINED ** (1 / len(self._surrogates))))
        outcomes, normal = _quantiles(count), _quantiles(DRAWS)
        weights = np.full(DRAWS, 1 / DRAWS)
        mean = np.ones((1, 1))
        for name, surrogate in self._surrogates.items():
            factor = self._factor(name, surrogate.draw_after(row, rung, outcomes, normal), weights)
            mean = (mean[:, None] * factor).reshape(len(mean) * count, -1)
        gains: np.ndarray = mean.sum(axis=-1)
        return gains

    def _factor(self, metric: str, drawn: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Returns what one metric contributes to the mean improvements, from (n, s) draws with (s,) weights.

        It is, (n, b), the mean side of each box of the free space that an objective takes; where a bound is broken,
        nothing. A metric that has a bound alone gives, (n, 1), the probability that it is kept.
        """
        kept = np.broadcast_to(weights, drawn.shape)
        for bound in self._spec.constraints:
            if bound.metric == metric:
                kept = kept * ((drawn <= bound.bound) if bound.sense == "<=" else (drawn >= bound.bound))
        if metric not in self._objectives:
            probable: np.ndarray = kept.sum(axis=-1, keepdims=True)
            return probable
        objective = self._objectives.index(metric)
        cost = costs(drawn[..., None], [self._spec.objectives[metric]])[..., 0]
        reach = (kept[:, None] @ self._space.reach(objective, cost))[:, 0]
        return self._space.sides(objective, reach)


@functools.cache
def _quantiles(count: int) -> np.ndarray:
    """Returns (count,) quantiles of a standard normal that are equally probable."""
    from scipy.special import ndtri

    quantiles: np.ndarray = ndtri((np.arange(count) + 0.5) / count)
    return quantiles
