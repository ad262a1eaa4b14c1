"""The Pareto frontier of an array of costs: its members, its volume, its knee (NumPy only).

A cost is lower-is-better. Nothing here knows what a trial is.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    """Returns a mask of the rows that no other row dominates; equal rows stay together.

    O(n log n) for up to two objectives, O(n log² n) for three, O(n · frontier) for more.

    Args:
        costs: (n, k), finite, lower is better; n may be 0.

    Returns:
        (n,) bool.

    Raises:
        ValueError: not two-dimensional, no column, NaN or infinite.
    """
    costs = _checked(costs)
    if not len(costs):
        return np.zeros(0, dtype=bool)
    order = np.lexsort(costs.T[::-1])
    rows = costs[order]
    first = np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)]
    mask = np.empty(len(costs), dtype=bool)
    mask[order] = _frontier_of_sorted(rows[first])[np.cumsum(first) - 1]
    return mask


def pareto_ranks(costs: np.ndarray) -> np.ndarray:
    """Returns for each row how many fronts lie before its own: 0 on the frontier, 1 on that of the rest, and so on.

    Args:
        costs: (n, k), finite, lower is better; n may be 0.

    Returns:
        (n,) int64 (non-dominated sorting, Deb et al. 2002, NSGA-II).

    Raises:
        ValueError: as in `non_dominated`.
    """
    costs = _checked(costs)
    ranks = np.zeros(len(costs), dtype=np.int64)
    left = np.arange(len(costs))
    rank = 0
    while len(left):
        front = non_dominated(costs[left])
        ranks[left[front]] = rank
        left, rank = left[~front], rank + 1
    return ranks


def contributions(costs: np.ndarray, reference: np.ndarray | Sequence[float]) -> np.ndarray:
    """Returns what each row alone adds to the hypervolume of all rows; 0 for dominated and for doubled ones.

    Args:
        costs: (n, k), finite, lower is better, k at most 3.
        reference: (k,), in the same units.

    Returns:
        (n,) float64, in the product of the units.

    Raises:
        ValueError: as in `hypervolume`.
    """
    costs = _checked(costs)
    if costs.shape[1] == 2:
        return _contributions_in_the_plane(costs, _checked(np.asarray(reference, dtype=np.float64)[None])[0])
    ranks = pareto_ranks(costs)
    # Whatever takes the place of a frontier row lies on the front behind it.
    near = np.flatnonzero(ranks <= 1)
    whole = hypervolume(costs[near], reference)
    gained = np.zeros(len(costs))
    for i in np.flatnonzero(ranks == 0):
        gained[i] = max(0.0, whole - hypervolume(costs[near[near != i]], reference))
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
    """Returns the volume that rows dominate, up to a reference point; exact for one to three objectives.

    Rows that are not better than the reference in every objective add nothing.

    Args:
        costs: (n, k), finite, lower is better.
        reference: (k,), in the same units.

    Returns:
        The volume, in the product of the units.

    Raises:
        ValueError: more than three objectives, other shapes, NaN or infinite.
    """
    costs = _checked(costs)
    corner = _checked(np.asarray(reference, dtype=np.float64)[None])[0]
    if len(corner) != costs.shape[1]:
        raise ValueError(f"the reference must have {costs.shape[1]} coordinates, but got {len(corner)}")
    if len(corner) > 3:
        raise ValueError(f"hypervolume is computed for at most 3 objectives, but got {len(corner)}")
    inside = costs[(costs < corner).all(axis=1)]
    # Objectives that are not there become one unit wide, which leaves the volume as it is.
    missing = 3 - len(corner)
    if missing == 1:
        return _area(inside, corner)
    boxes = np.c_[inside, np.zeros((len(inside), missing))]
    return _volume(boxes, *corner.tolist(), *[1.0] * missing)


def knee(costs: np.ndarray) -> int | None:
    """Finds the knee of the frontier: where giving up a little of one objective no longer buys much of another.

    Each objective is scaled to [0, 1] over the frontier. The knee lies farthest below the line (plane)
    `sum of scaled costs = 1`. With two objectives that is the line through the two extreme points, so this
    is the bulge point of normal-boundary intersection (Das 1999, "On characterizing the knee of the Pareto
    curve based on normal-boundary intersection"); with three it is the plane through the corners of the
    scaled cube, which stays defined where the plane through the extreme points does not. Ties go to the
    lexicographically smallest costs, then to the first row.

    Args:
        costs: (n, k), finite, lower is better.

    Returns:
        A row of `costs`, or None when there is none.

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


def _frontier_of_sorted(rows: np.ndarray) -> np.ndarray:
    """Returns the mask (n,) of distinct rows in lexicographic order: only an earlier row can dominate a row."""
    n, k = rows.shape
    mask = np.zeros(n, dtype=bool)
    mask[0] = True
    if k == 2:
        lowest = np.minimum.accumulate(rows[:, 1])
        mask[1:] = lowest[1:] < lowest[:-1]
    if k == 3:
        mask = ~_dominated_3(rows)
    return _frontier_of_many(rows) if k > 3 else mask


def _dominated_3(rows: np.ndarray) -> np.ndarray:
    """Divides and conquers from the bottom up: does a row of the left half lie below one of the right half?

    Within a block the first objective is settled by the order, so one running minimum of the third
    objective, taken along the second, answers for all rows of the right half at once.
    """
    n = len(rows)
    second, third = (np.unique(rows[:, c], return_inverse=True)[1].reshape(-1) for c in (1, 2))
    place = np.arange(n)
    dominated = np.zeros(n, dtype=bool)
    width = 1
    while width < n:
        block, right = place // (2 * width), (place // width) % 2
        order = np.argsort((block * n + second) * 2 + right)
        # Ranks below n are real; a drop of n + 1 from block to block starts the running minimum anew.
        drop = block[order] * (n + 1)
        left_third = np.where(right[order] == 0, third[order], n)
        lowest = np.minimum.accumulate(left_third - drop) + drop
        dominated[order] |= (right[order] == 1) & (lowest <= third[order])
        width *= 2
    return dominated


def _frontier_of_many(rows: np.ndarray) -> np.ndarray:
    """Takes any number of objectives: the first remaining row is on the frontier and removes what it dominates."""
    mask = np.zeros(len(rows), dtype=bool)
    remaining = np.arange(len(rows))
    while len(remaining):
        head = remaining[0]
        mask[head] = True
        remaining = remaining[(rows[remaining] < rows[head]).any(axis=1)]
    return mask


def _area(rows: np.ndarray, corner: np.ndarray) -> float:
    """Returns the hypervolume of two objectives: one strip for each row of the staircase."""
    rows = rows[non_dominated(rows)]
    rows = np.unique(rows, axis=0)
    widths = np.diff(np.r_[rows[:, 0], corner[0]])
    return math.fsum(widths * (corner[1] - rows[:, 1]))


def _contributions_in_the_plane(costs: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Returns the box of each frontier row between its neighbors, less what rows behind it dominate of that box."""
    if corner.shape != (2,):
        raise ValueError(f"the reference must have 2 coordinates, but got {len(corner)}")
    gained = np.zeros(len(costs))
    inside = np.flatnonzero((costs < corner).all(axis=1))
    members = inside[non_dominated(costs[inside])]
    members = members[np.argsort(costs[members, 0], kind="stable")]
    behind = costs[np.setdiff1d(inside, members)]
    for i, member in enumerate(members):
        x_end = corner[0] if i + 1 == len(members) else costs[members[i + 1], 0]
        y_end = corner[1] if i == 0 else costs[members[i - 1], 1]
        box = np.array([x_end, y_end])
        taken = behind[(behind < box).all(axis=1)]
        gained[member] = max(0.0, np.prod(box - costs[member]) - (_area(taken, box) if len(taken) else 0.0))
    return gained


def _volume(boxes: np.ndarray, x_end: float, y_end: float, z_end: float) -> float:
    """Sweeps along z; a staircase of (x, y) corners holds the area that is dominated so far.

    After Fonseca, Paquete and López-Ibáñez (2006), for three objectives; O(n log n) searches.
    """
    boxes = boxes[np.argsort(boxes[:, 2], kind="stable")]
    xs, ys = [-math.inf, x_end], [y_end, -math.inf]
    area, slabs = 0.0, []
    ends = np.r_[boxes[:, 2], z_end][1:]
    for (x, y, z), end in zip(boxes.tolist(), ends.tolist(), strict=True):
        area += _add_corner(xs, ys, x, y)
        slabs.append(area * (end - z))
    return math.fsum(slabs)


def _add_corner(xs: list[float], ys: list[float], x: float, y: float) -> float:
    """Puts a corner into the staircase, xs rising and ys falling; returns the area it adds."""
    start = bisect_left(xs, x)
    if ys[start - 1] <= y or (xs[start] == x and ys[start] <= y):
        return 0.0
    gained, left, stop = 0.0, x, start
    while True:
        gained += (xs[stop] - left) * (ys[stop - 1] - y)
        left = xs[stop]
        if ys[stop] < y:
            break
        stop += 1
    xs[start:stop], ys[start:stop] = [x], [y]
    return gained
