"""Process: a Gaussian process over points and rungs, in which every column has an effect of its own (torch-free).

Two trials of rungs r and s, at rows x and y of numbers, are taken to vary together by

    f_r f_s (LEVEL + sum_i a_i b_i(x, y)) + [r = s is below the full schedule] (LEVEL + sum_i own_ri b_i(x, y)),

where the b_i are Matern's covariance (5/2) of each column, and the product of these. Effects that add up are learned
from a few trials in any number of columns (Duvenaud, Nickisch and Rasmussen, NIPS 2011). A rung follows the full
schedule by a factor f and has a part of its own (Kennedy and O'Hagan, Biometrika 87(1), 2000), since what bits cost
before training tells little of what they cost after it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

Array = np.ndarray

LEVEL = 4.0
"""Variance of what all trials of a rung have in common, on a scale where values vary by 1: almost free."""
JITTER = 1e-8
"""Added to each trial's own variance, so that equal trials leave the covariance invertible."""
STEPS = 60
"""Steps of the search for the best parameters: it seldom takes more than thirty."""
MOST_FITTED = 150
"""Trials from which parameters are fitted: that costs the cube of their number, some fifty times."""
REACH = 4.0
"""How many standard deviations a parameter may lie from its most likely value before any trial."""
LENGTH, EFFECT, JOINT, OWN, NOISE, FOLLOWS = 0.7, 0.3, 0.6, 0.05, 0.01, 0.8
"""The parameters that are most likely before any trial: lengths in the range of a column, variances, a factor.

They say that effects are smooth, that joint ones may be larger than each alone, and that rungs mostly agree. Other
values within a factor of two predict the trials of `benchmarks/results/search_table.parquet` equally well.
"""
LENGTH_SPREAD, SPREAD, JOINT_SPREAD, FOLLOWS_SPREAD = 0.7, 1.2, 0.4, 0.4
"""How sure that is: standard deviations of logarithms, and of the factor.

Joint effects are held more tightly: trials along one edge of a space show none, and there may be large ones inside.
"""


class Parameters(NamedTuple):
    """What a process knows beside its trials, for d columns and r rungs below the full schedule."""

    lengths: Array
    """(d,) distances over which a column's effect changes."""
    variances: Array
    """(d + 1,) of the effect of each column, and of what all columns do together."""
    noise: float
    follows: Array
    """(r + 1,) factors by which rungs follow the full schedule, whose own is 1."""
    own: Array
    """(r, d + 1) variances of what each lower rung has for itself."""


class Layout:
    """The parameters as one vector, logarithms except for the factors, with a normal prior over it."""

    def __init__(self, columns: int, lower_rungs: int) -> None:
        self.columns, self.lower = columns, lower_rungs
        parts = [
            (LENGTH, LENGTH_SPREAD, columns),
            (EFFECT, SPREAD, columns),
            (JOINT, JOINT_SPREAD, 1),
            (NOISE, 1.0, 1),
        ]
        own = lower_rungs * (columns + 1)
        logs = [np.full(count, math.log(value)) for value, _, count in parts]
        wide = [np.full(count, spread) for _, spread, count in parts]
        self.mean = np.concatenate([*logs, np.full(lower_rungs, FOLLOWS), np.full(own, math.log(OWN))])
        self.spread = np.concatenate([*wide, np.full(lower_rungs, FOLLOWS_SPREAD), np.full(own, SPREAD)])

    def parameters(self, vector: Array) -> Parameters:
        """Returns the parameters that a vector stands for."""
        d, r = self.columns, self.lower
        lengths, variances, noise, follows, own = np.split(vector, np.cumsum([d, d + 1, 1, r]))
        return Parameters(
            np.exp(lengths), np.exp(variances), math.exp(noise[0]), np.r_[follows, 1.0], np.exp(own).reshape(r, d + 1)
        )


@dataclass(frozen=True)
class Process:
    """A Gaussian process that has seen n trials: (n, d) rows, (n,) numbers of rungs of which the highest is the full
    schedule, and (n,) values with a mean near 0 and a variance near 1.
    """

    parameters: Parameters
    rows: Array
    rungs: Array
    values: Array

    @property
    def full(self) -> int:
        """The number of the full schedule's rung."""
        return len(self.parameters.own)

    def mean(self, rows: Array, rungs: Array) -> Array:
        """Returns (m,) means at (m, d) rows and (m,) rungs."""
        mean: Array = _covariance(self.parameters, rows, rungs, self.rows, self.rungs) @ self._weights
        return mean

    def predict(self, rows: Array, rungs: Array) -> tuple[Array, Array]:
        """Returns (m,) means and (m,) standard deviations at (m, d) rows and (m,) rungs, without a trial's noise."""
        cross = _covariance(self.parameters, self.rows, self.rungs, rows, rungs)
        left = self._prior_variance(rungs) - (self._solved(cross) ** 2).sum(axis=0)
        return cross.T @ self._weights, np.sqrt(np.maximum(left, JITTER))

    def correlation(self, row: Array, rung: int) -> float:
        """Returns how a trial of a (d,) row at a rung is expected to agree with the same in full, from -1 to 1."""
        rows, rungs = np.stack([row, row]), np.array([rung, self.full])
        solved = self._solved(_covariance(self.parameters, self.rows, self.rungs, rows, rungs))
        left = _covariance(self.parameters, rows, rungs, rows, rungs) - solved.T @ solved
        seen = left[0, 0] + self.parameters.noise
        return float(np.clip(left[0, 1] / math.sqrt(max(seen * left[1, 1], JITTER)), -1.0, 1.0))

    def believing(self, rows: Array, rungs: Array) -> "Process":
        """Returns the process as if trials at (m, d) rows and (m,) rungs had ended as predicted."""
        values = np.r_[self.values, self.mean(rows, rungs)]
        return Process(self.parameters, np.r_[self.rows, rows], np.r_[self.rungs, rungs], values)

    def _solved(self, cross: Array) -> Array:
        from scipy.linalg import solve_triangular

        solved: Array = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        return solved

    @cached_property
    def _factor(self) -> Array:
        covariance = _covariance(self.parameters, self.rows, self.rungs, self.rows, self.rungs)
        covariance[np.diag_indices_from(covariance)] += self.parameters.noise + JITTER
        return np.linalg.cholesky(covariance)

    @cached_property
    def _weights(self) -> Array:
        from scipy.linalg import cho_solve

        weights: Array = cho_solve((self._factor, True), self.values, check_finite=False)
        return weights

    def _prior_variance(self, rungs: Array) -> Array:
        _, variances, _, follows, own = self.parameters
        alone = np.r_[LEVEL + own.sum(axis=1), 0.0]
        variance: Array = (follows**2 * (LEVEL + variances.sum()) + alone)[rungs]
        return variance


def fit_process(
    rows: Array, rungs: Array, values: Array, *, lower_rungs: int, start: Array | None
) -> tuple[Process, Array]:
    """Returns the process with the most likely parameters given its trials, and the vector that they stand for.

    The search for them begins at the vector `start`, or at what is most likely before any trial. Of many trials it
    looks at MOST_FITTED, evenly spaced in the order given.
    """
    from scipy.optimize import minimize

    layout = Layout(rows.shape[1], lower_rungs)
    some = np.unique(np.linspace(0, len(rows) - 1, MOST_FITTED).astype(int)) if len(rows) > MOST_FITTED else ...
    grid, fitted = Grid(rows[some]), (rungs[some], values[some])
    marks = grid.marks(rows[some])
    found = minimize(
        lambda vector: _loss(layout, vector, grid, marks, *fitted),
        layout.mean if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([layout.mean - REACH * layout.spread, layout.mean + REACH * layout.spread], axis=1),
        options={"maxiter": STEPS},
    )
    return Process(layout.parameters(found.x), rows, rungs, values), found.x


class Grid:
    """The different numbers of each of d columns, v in all: few, since a space is a grid.

    With rows as (n, v) marks of their numbers, a sum of a function of each column, for n times m pairs of rows, is a
    product of three matrices, and so is the sum of its derivatives over all pairs.
    """

    def __init__(self, *sets: Array) -> None:
        """Takes all rows that will be marked, (n, d) for each set."""
        self._numbers = [np.unique(column) for column in np.concatenate(sets).T]
        self._ends = np.cumsum([0, *map(len, self._numbers)])
        self.distances = [np.abs(numbers[:, None] - numbers) for numbers in self._numbers]
        """(v_j, v_j) between the numbers of each column."""

    def marks(self, rows: Array) -> Array:
        """Returns (n, v) ones where a row, of (n, d), has a number, and zeros."""
        marks = np.zeros((len(rows), self._ends[-1]))
        for column, numbers, begin in zip(rows.T, self._numbers, self._ends, strict=False):
            marks[np.arange(len(rows)), begin + np.searchsorted(numbers, column)] = 1.0
        return marks

    def table(self, tables: Sequence[Array], factors: Array) -> Array:
        """Returns the (v, v) matrix that has the (v_j, v_j) table of each column, times its factor, and else zeros."""
        whole = np.zeros((self._ends[-1], self._ends[-1]))
        for table, factor, begin, end in zip(tables, factors, self._ends, self._ends[1:], strict=False):
            whole[begin:end, begin:end] = factor * table
        return whole

    def sums(self, tables: Sequence[Array], weights: Array) -> Array:
        """Returns (d,) sums of the (v_j, v_j) table of each column, weighted by its part of a (v, v) matrix."""
        ends = zip(self._ends, self._ends[1:], strict=False)
        parts = [weights[begin:end, begin:end] for begin, end in ends]
        return np.array([np.vdot(table, part) for table, part in zip(tables, parts, strict=True)])


def _covariance(known: Parameters, rows: Array, rungs: Array, others: Array, other_rungs: Array) -> Array:
    """Returns the (n, m) prior covariances of (n, d) and (m, d) rows, each with its rung."""
    grid = Grid(rows, others)
    covariance, _, _ = _related(known, grid, grid.marks(rows), rungs, grid.marks(others), other_rungs)
    return covariance


def _related(
    known: Parameters, grid: Grid, marks: Array, rungs: Array, other_marks: Array, other_rungs: Array
) -> tuple[Array, Array, Array]:
    """Returns the (n, m) prior covariances of marked rows, each with its rung.

    Beside them, (n, m) each: their shape, which rungs have in common, and the joint effect in it.
    """
    lengths, variances, _, follows, own = known
    scaled = [distances / length for distances, length in zip(grid.distances, lengths, strict=True)]
    tables, ones = [_matern(far) for far in scaled], np.ones(len(scaled))
    joint = marks @ grid.table([_log_matern(far) for far in scaled], ones) @ other_marks.T
    np.exp(joint, out=joint)
    shape = marks @ grid.table(tables, variances) @ other_marks.T
    shape += LEVEL + variances[-1] * joint
    total = shape * follows[rungs][:, None]
    total *= follows[other_rungs]
    for rung, each in enumerate(own):
        here, there = rungs == rung, other_rungs == rung
        if here.any() and there.any():
            alone = marks[here] @ grid.table(tables, each) @ other_marks[there].T
            total[np.ix_(here, there)] += LEVEL + alone + each[-1] * joint[np.ix_(here, there)]
    return total, shape, joint


def _matern(scaled: Array) -> Array:
    """Returns Matern's covariance at distances in lengths."""
    covariance: Array = np.exp(_log_matern(scaled))
    return covariance


def _log_matern(scaled: Array) -> Array:
    z = math.sqrt(5.0) * scaled
    logarithm: Array = np.log1p(z + z * z / 3) - z
    return logarithm


def _log_matern_slope(scaled: Array) -> Array:
    """Returns the derivative of the covariance's logarithm by the logarithm of the length."""
    z = math.sqrt(5.0) * scaled
    slope: Array = z * z * (1 + z) / (3 + 3 * z + z * z)
    return slope


def _loss(layout: Layout, vector: Array, grid: Grid, marks: Array, rungs: Array, values: Array) -> tuple[float, Array]:
    """Returns the negative logarithm of the parameters' posterior density, and its gradient by the vector.

    (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 5.8 and 5.9.)
    """
    from scipy.linalg import cho_solve

    known = layout.parameters(vector)
    lengths, variances, noise, follows, own = known
    covariance, shape, joint = _related(known, grid, marks, rungs, marks, rungs)
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    factor = np.linalg.cholesky(covariance)
    inverse = cho_solve((factor, True), np.eye(len(values)), check_finite=False)
    weights = inverse @ values
    off = (vector - layout.mean) / layout.spread
    loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off

    by_covariance = 0.5 * (inverse - np.outer(weights, weights))
    scaled = [distances / length for distances, length in zip(grid.distances, lengths, strict=True)]
    tables, log_slopes = [_matern(far) for far in scaled], [_log_matern_slope(far) for far in scaled]
    slopes = [table * slope for table, slope in zip(tables, log_slopes, strict=True)]

    def by_effects(weighted: Array, at: Array, each: Array) -> tuple[Array, Array]:
        """Returns the derivatives by logarithms of (d + 1,) variances and of (d,) lengths, from those by a shape."""
        seen, together = marks[at], weighted * joint[np.ix_(at, at)]
        apart = seen.T @ weighted @ seen
        by_variances = each * np.r_[grid.sums(tables, apart), together.sum()]
        both = seen.T @ together @ seen
        return by_variances, each[:-1] * grid.sums(slopes, apart) + each[-1] * grid.sums(log_slopes, both)

    everything = np.full(len(rungs), fill_value=True)
    by_variances, by_lengths = by_effects(
        by_covariance * np.outer(follows[rungs], follows[rungs]), everything, variances
    )
    by_own, by_follows = np.zeros_like(own), np.zeros(layout.lower)
    for rung, each in enumerate(own):
        at = rungs == rung
        by_own[rung], more = by_effects(by_covariance[np.ix_(at, at)], at, each)
        by_lengths = by_lengths + more
        by_follows[rung] = 2 * ((by_covariance * shape)[at] @ follows[rungs]).sum()
    by_noise = noise * np.trace(by_covariance)
    gradient = np.concatenate([by_lengths, by_variances, [by_noise], by_follows, by_own.ravel()])
    return float(loss), gradient + off / layout.spread
