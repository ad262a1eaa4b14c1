"""The probability that a point is on the frontier, since each of its runs is partly luck.

The true mean costs of a point are drawn from normal distributions around the means of its runs, and counted is how
often no other point dominates it.
"""

import math
from collections.abc import Sequence

import numpy as np

from trainables.results import SCORES, Completed
from tune_app.frontier.pareto import non_dominated
from tune_app.frontier.points import PointRuns, mean_costs
from tune_app.spec.experiment import ExperimentSpec

DRAWS = 2_000
"""Draws of all costs: a probability is then within 0.022 of its limit in 95 of 100 cases; time grows with them."""
SHARES = {*SCORES} - {"cross_entropy"}
"""Metrics that are shares of right images, or means of such."""
FEW = 5
"""Runs from which a point's own standard deviation is taken: of fewer it is often far too small by chance."""
FAR = 4.0
"""Standard errors on either side beyond which the order of two means is settled: one draw in 16,000 lies beyond."""
BLOCK = 250_000
"""Rows that are drawn at a time: 4 MB for two objectives, so that memory stays flat however many points there are."""


def probabilities(groups: Sequence[PointRuns], spec: ExperimentSpec) -> list[float | None]:
    """Returns for each group how likely no other feasible one dominates its true means.

    It is None without a usable result, and 0 outside the constraints.
    """
    feasible = [i for i, group in enumerate(groups) if group.feasible]
    found: list[float | None] = [0.0 if group.mean else None for group in groups]
    means, errors = mean_costs([groups[i] for i in feasible], spec), standard_errors(groups, spec)[feasible]
    for i, probability in zip(feasible, probability_non_dominated(means, errors), strict=True):
        found[i] = float(probability)
    return found


def standard_errors(groups: Sequence[PointRuns], spec: ExperimentSpec) -> np.ndarray:
    """Returns standard errors of the mean objectives, (groups, objectives); 0 without a usable result.

    Points with fewer than FEW runs have the standard deviation that all repeated points share (pooled): that of two
    or three runs is often far too small by chance. Where nothing was repeated it is that of a share of so many
    images, for accuracies and macro F1 (with very different counts of images by class too small for those in which
    each class counts alike); other objectives then count as exact.
    """
    pooled = {name: pooled_sd(groups, name) for name in spec.objectives}
    rows = [[_standard_error(group, name, pooled[name]) for name in spec.objectives] for group in groups]
    return np.array(rows, dtype=np.float64).reshape(-1, len(spec.objectives))


def pooled_sd(groups: Sequence[PointRuns], name: str) -> float | None:
    """Returns the root of the mean variance of repeated points, weighted by degrees of freedom; None without any."""
    repeated = [(len(group.complete) - 1, group.sd[name]) for group in groups if group.sd]
    freedom = sum(n for n, _ in repeated)
    return math.sqrt(sum(n * sd**2 for n, sd in repeated) / freedom) if freedom else None


def probability_non_dominated(
    means: np.ndarray, errors: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Returns for each row the share of draws of all true costs in which no other row dominates it, (n,) in [0, 1].

    The true costs are drawn from normal distributions around `means`, (n, k), lower is better, with the standard errors
    `errors`, (n, k), where 0 is exact. Rows that are surely dominated get 0 without being drawn.
    """
    near = np.flatnonzero(~_surely_dominated(means, errors))
    rng = np.random.default_rng(seed)
    # Bytes are exact, so that most often only the other objective is drawn.
    exact = next((column for column in range(means.shape[1]) if not errors[near, column].any()), None)
    wins, left = np.zeros(len(near)), draws
    while left and len(near):
        size = min(left, BLOCK // len(near) + 1)
        drawn = means[near] + errors[near] * rng.standard_normal((size, *means[near].shape))
        wins += non_dominated_in_each(drawn, exact=exact).sum(axis=0)
        left -= size
    found = np.zeros(len(means))
    found[near] = wins / draws
    return found


def non_dominated_in_each(costs: np.ndarray, *, exact: int | None = None) -> np.ndarray:
    """Returns `non_dominated` of many matrices, (draws, n, k) to (draws, n).

    `exact` is a column that is the same in all of them: with two objectives one sort then does for all.
    """
    if costs.shape[2] == 2 and exact is not None:
        return _in_each_sorted(costs[0, :, exact], costs[..., 1 - exact])
    return np.array([non_dominated(rows) for rows in costs])


def _standard_error(group: PointRuns, name: str, pooled: float | None) -> float:
    if not group.mean:
        return 0.0
    if len(group.complete) >= FEW:
        return group.sd[name] / math.sqrt(len(group.complete))
    if pooled is not None:
        return pooled / math.sqrt(len(group.complete))
    result = group.first.result
    if name not in SHARES or not isinstance(result, Completed):
        return 0.0
    return math.sqrt(group.mean[name] * (1 - group.mean[name]) / result.measurement.n)


def _in_each_sorted(fixed: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Keeps a row if it beats all rows of smaller fixed cost, and none of the same fixed cost beats it."""
    order = np.argsort(fixed, kind="stable")
    other = drawn[:, order]
    new = np.r_[True, np.diff(fixed[order]) > 0]
    starts, run = np.flatnonzero(new), np.cumsum(new) - 1
    best = np.minimum.reduceat(other, starts, axis=1)
    before = np.minimum.accumulate(np.c_[np.full(len(best), np.inf), best[:, :-1]], axis=1)
    found = np.empty(other.shape, dtype=bool)
    found[:, order] = (other < before[:, run]) & (other <= best[:, run])
    return found


def _surely_dominated(means: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Returns a mask of the rows that lie behind another one even if both are FAR standard errors off.

    What such a row would dominate in a draw, that other row dominates too: leaving it out changes nothing.
    """
    low, high = means - FAR * errors, means + FAR * errors
    found = np.zeros(len(means), dtype=bool)
    for row in high[non_dominated(high)]:
        found |= (row <= low).all(axis=1) & (row < low).any(axis=1)
    return found
