"""Process: a Gaussian process over points and rungs, in which every column has an effect of its own (torch-free).

Two trials of rungs r and s, at rows x and y of numbers, are taken to vary together by

    f_r f_s (LEVEL + sum_i a_i b_i(x, y)) + [r = s is below the full schedule] (LEVEL + sum_i own_ri b_i(x, y)),

where the b_i are Matern's covariance (5/2) of each column, and the product of these. Effects that add up are learned
from a few trials in any number of columns (Duvenaud, Nickisch and Rasmussen, NIPS 2011). A rung follows the full
schedule by a factor f and has a part of its own (Kennedy and O'Hagan, Biometrika 87(1), 2000), since what bits cost
before training tells little of what they cost after it.
"""

import math
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
        mean, _ = self.predict(rows, rungs)
        return Process(self.parameters, np.r_[self.rows, rows], np.r_[self.rungs, rungs], np.r_[self.values, mean])

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

    The search for them begins at the vector `start`, or at what is most likely before any trial.
    """
    from scipy.optimize import minimize

    layout = Layout(rows.shape[1], lower_rungs)
    distances = np.abs(rows.T[:, :, None] - rows.T[:, None, :])
    found = minimize(
        lambda vector: _loss(layout, vector, distances, rungs, values),
        layout.mean if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([layout.mean - REACH * layout.spread, layout.mean + REACH * layout.spread], axis=1),
        options={"maxiter": STEPS},
    )
    return Process(layout.parameters(found.x), rows, rungs, values), found.x


def _bases(columns: Array) -> Array:
    """Returns (d + 1, n, m) covariances, those of columns and their product, from the (d, n, m) ones of columns."""
    return np.concatenate([columns, columns.prod(axis=0)[None]])


def _covariance(known: Parameters, rows: Array, rungs: Array, others: Array, other_rungs: Array) -> Array:
    """Returns the (n, m) prior covariances of (n, d) and (m, d) rows, each with its rung."""
    scaled = np.abs(rows.T[:, :, None] - others.T[:, None, :]) / known.lengths[:, None, None]
    return _related(known, _bases(_matern(scaled)), rungs, other_rungs)


def _related(known: Parameters, bases: Array, rungs: Array, other_rungs: Array) -> Array:
    """Returns the (n, m) prior covariances from the (d + 1, n, m) ones of columns and all, by the rungs of both."""
    total = np.outer(known.follows[rungs], known.follows[other_rungs])
    total *= LEVEL + np.tensordot(known.variances, bases, 1)
    for rung, own in enumerate(known.own):
        at = np.ix_(rungs == rung, other_rungs == rung)
        total[at] += LEVEL + np.tensordot(own, bases[(slice(None), *at)], 1)
    return total


def _matern(scaled: Array) -> Array:
    """Returns Matern's covariance at distances in lengths."""
    z = math.sqrt(5.0) * scaled
    covariance: Array = (1 + z + z * z / 3) * np.exp(-z)
    return covariance


def _matern_slope(scaled: Array) -> Array:
    """Returns the derivative of Matern's covariance by the logarithm of the length."""
    z = math.sqrt(5.0) * scaled
    slope: Array = z * z * (1 + z) / 3 * np.exp(-z)
    return slope


def _loss(layout: Layout, vector: Array, distances: Array, rungs: Array, values: Array) -> tuple[float, Array]:
    """Returns the negative logarithm of the parameters' posterior density, and its gradient by the vector.

    (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 5.8 and 5.9.)
    """
    from scipy.linalg import cho_solve

    known = layout.parameters(vector)
    lengths, variances, noise, follows, own = known
    scaled = distances / lengths[:, None, None]
    columns = _matern(scaled)
    bases = _bases(columns)
    covariance = _related(known, bases, rungs, rungs)
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    factor = np.linalg.cholesky(covariance)
    inverse = cho_solve((factor, True), np.eye(len(values)), check_finite=False)
    weights = inverse @ values
    off = (vector - layout.mean) / layout.spread
    loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off

    by_covariance = 0.5 * (inverse - np.outer(weights, weights))
    by_shape = by_covariance * np.outer(follows[rungs], follows[rungs])
    by_bases = variances[:, None, None] * by_shape
    by_own = np.empty_like(own)
    for rung in range(layout.lower):
        at = np.ix_(rungs == rung, rungs == rung)
        inside = bases[(slice(None), *at)] * by_covariance[at]
        by_own[rung] = own[rung] * inside.sum(axis=(1, 2))
        by_bases[(slice(None), *at)] += own[rung][:, None, None] * by_covariance[at]
    shape = LEVEL + np.tensordot(variances, bases, 1)
    by_follows = [2 * ((by_covariance * shape)[rungs == rung] @ follows[rungs]).sum() for rung in range(layout.lower)]
    gradient = [
        _by_lengths(columns, _matern_slope(scaled), by_bases),
        variances * np.tensordot(bases, by_shape, 2),
        np.array([noise * np.trace(by_covariance)]),
        np.array(by_follows),
        by_own.ravel(),
    ]
    return float(loss), np.concatenate(gradient) + off / layout.spread


def _by_lengths(columns: Array, slopes: Array, by_bases: Array) -> Array:
    """Returns the (d,) derivatives by the logarithms of the lengths, through a column's effect and the joint one."""
    others = [np.delete(columns, j, axis=0).prod(axis=0) for j in range(len(columns))]
    found: Array = ((by_bases[:-1] + by_bases[-1] * np.stack(others)) * slopes).sum(axis=(1, 2))
    return found
