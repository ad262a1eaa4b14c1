"""Promotion: which points of a rung are worth more training (NumPy only; nothing here knows what a trial is).

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943), asynchronous as in ASHA (Li et al., arXiv
1810.05934), with the Pareto rank in the place of a loss as in MO-ASHA (Schmucker et al., arXiv 2106.12639). Ranks
are taken inside classes of points that learn at the same pace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune_app.frontier.pareto import contributions, pareto_ranks


@dataclass(frozen=True)
class Standing:
    """The result of a point at a rung."""

    key: str
    costs: tuple[float, ...]
    violation: float = 0.0
    """How far it is outside its bounds; zero or less means inside."""
    pace: int = 0
    """Points are ranked among those of the same pace."""


def order(standings: Sequence[Standing], reference: Sequence[float]) -> list[str]:
    """Returns keys from the most promising to the least.

    First those inside their bounds; then by Pareto rank inside their class of pace; equal ranks by what they
    add to the hypervolume of their rank, all classes together; equal again in the given order. `standings` are
    the complete points of one rung, `reference` the costs that bound the hypervolume, one per objective.
    """
    costs = np.array([s.costs for s in standings], dtype=np.float64)
    outside = np.array([max(0.0, s.violation) for s in standings])
    ranks = np.zeros(len(standings), dtype=np.int64)
    for pace in {s.pace for s in standings}:
        members = np.flatnonzero([s.pace == pace for s in standings])
        ranks[members] = pareto_ranks(costs[members])
    gains = np.zeros(len(standings))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        gains[members] = contributions(costs[members], reference)
    best = np.lexsort((-gains, ranks, outside))
    return [standings[i].key for i in best]


def rank_correlation(low: Sequence[float], high: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation of values of the same points at a cheaper and at a dearer rung.

    Ties have their mean rank; it is None when a side does not vary.
    """
    if len(low) < 2 or len(set(low)) < 2 or len(set(high)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(low, high).statistic)
