"""The Pareto frontier of an array of costs: its members, its volume, its knee; moocore does the geometry.

A cost is lower-is-better. Nothing here knows what a trial is.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import moocore
import numpy as np

if TYPE_CHECKING:
    from tune_app.spec.experiment import Direction

TIE_DIGITS = 12
"""Knee distances that agree to this many decimals count as equal: the rest is rounding."""


def costs(values: np.ndarray, directions: Sequence["Direction"]) -> np.ndarray:
    """Turns objective values, (..., k) in the units of the objectives, into costs: maximized columns change sign.

    Raises:
        ValueError: the columns do not match the k directions.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-1:] != (len(directions),):
        raise ValueError(f"one column per direction must be given, but got {values.shape} for {list(directions)}")
    return values * [-1.0 if d == "maximize" else 1.0 for d in directions]


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Returns the mask, (n,), of the rows of `costs`, (n, k), that no other row dominates; equal rows stay together.

    O(n log n) for up to three objectives, O(n log^(k - 2) n) for more (Kung, Luccio and Preparata 1975); n may be 0.

    Raises:
        ValueError: not two-dimensional, no column, NaN or infinite.
    """
    return np.asarray(moocore.is_nondominated(_checked(costs), keep_weakly=True))


def pareto_ranks(costs: np.ndarray) -> np.ndarray:
    """Returns how many fronts lie before that of each row of `costs`, (n, k): 0 on the frontier, 1 on that of the rest.

    The ranks, (n,), are those of non-dominated sorting (Deb et al. 2002, NSGA-II); n may be 0.

    Raises:
        ValueError: as in `non_dominated`.
    """
    return np.asarray(moocore.pareto_rank(_checked(costs)))


def contributions(costs: np.ndarray, reference: np.ndarray | Sequence[float]) -> np.ndarray:
    """Returns what each row of `costs`, (n, k), alone adds to the hypervolume of all rows, (n,), in the units' product.

    It is 0 for dominated and for doubled rows.

    Raises:
        ValueError: as in `hypervolume`.
    """
    costs, corner = _with_corner(costs, reference)
    if len(corner) == 2:
        return np.asarray(moocore.hv_contributions(costs, ref=corner, ignore_dominated=False))
    # With three objectives and dominated rows, moocore 0.3 takes what is below 1.5e-8 for nothing.
    ranks = pareto_ranks(costs)
    # Whatever takes the place of a frontier row lies on the front behind it.
    near = np.flatnonzero(ranks <= 1)
    whole = hypervolume(costs[near], corner)
    gained = np.zeros(len(costs))
    for i in np.flatnonzero(ranks == 0):
        gained[i] = max(0.0, whole - hypervolume(costs[near[near != i]], corner))
    return gained


class GrowingFrontier:
    """A frontier that takes rows one by one, and its hypervolume up to a reference point, (k,), which never falls."""

    def __init__(self, reference: np.ndarray | Sequence[float]) -> None:
        self._reference = reference
        self._rows = np.empty((0, len(reference)))
        self.volume = 0.0

    def add(self, row: np.ndarray) -> float:
        """Takes a row of costs, (k,), and returns the hypervolume with it.

        Raises:
            ValueError: as in `hypervolume`.
        """
        if not (self._rows <= row).all(axis=1).any():
            self._rows = np.r_[self._rows[~(row <= self._rows).all(axis=1)], row[None]]
            self.volume = hypervolume(self._rows, self._reference)
        return self.volume


def hypervolume(costs: np.ndarray, reference: np.ndarray | Sequence[float]) -> float:
    """Returns the volume that rows of `costs`, (n, k), dominate up to a reference point, (k,), in the units' product.

    It is exact, for one to three objectives (Fonseca, Paquete and López-Ibáñez 2006). Rows that are not better than the
    reference in every objective add nothing.

    Raises:
        ValueError: more than three objectives, other shapes, NaN or infinite.
    """
    costs, corner = _with_corner(costs, reference)
    return float(moocore.hypervolume(costs, ref=corner))


def knee(costs: np.ndarray) -> int | None:
    """Finds the knee of the frontier: where giving up a little of one objective no longer buys much of another.

    Each objective is scaled to [0, 1] over the frontier. The knee lies farthest below the line (plane)
    `sum of scaled costs = 1`. With two objectives that is the line through the two extreme points, so this
    is the bulge point of normal-boundary intersection (Das 1999, "On characterizing the knee of the Pareto
    curve based on normal-boundary intersection"); with three it is the plane through the corners of the
    scaled cube, which stays defined where the plane through the extreme points does not. Ties go to the
    lexicographically smallest costs, then to the first row. It is a row of `costs`, (n, k), or None when there is none.

    Raises:
        ValueError: as in `non_dominated`.
    """
    members = np.flatnonzero(non_dominated(costs))
    if not len(members):
        return None
    front = np.asarray(costs, dtype=np.float64)[members]
    low, high = front.min(axis=0), front.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    total = ((front - low) / width).sum(axis=1).round(TIE_DIGITS)
    return int(members[np.lexsort((*front.T[::-1], total))[0]])


def _checked(costs: np.ndarray) -> np.ndarray:
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or not costs.shape[1]:
        raise ValueError(f"costs must have the shape (n, k) with k >= 1, but got {costs.shape}")
    if not np.isfinite(costs).all():
        raise ValueError("costs must be finite, but got NaN or infinity: leave such rows out")
    return costs


def _with_corner(costs: np.ndarray, reference: np.ndarray | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns costs and a reference point that fit each other."""
    costs, corner = _checked(costs), _checked(np.asarray(reference, dtype=np.float64)[None])[0]
    if len(corner) != costs.shape[1]:
        raise ValueError(f"the reference must have {costs.shape[1]} coordinates, but got {len(corner)}")
    if len(corner) > 3:
        raise ValueError(f"hypervolume is computed for at most 3 objectives, but got {len(corner)}")
    return costs, corner
