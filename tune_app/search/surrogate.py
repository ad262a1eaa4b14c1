"""Surrogate: what a metric will be with the full schedule, learned from trials of all rungs."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.parameters import Value
from search_spaces.space import SearchSpace
from trainables.results import SCORES

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

MIN_ERROR = 1e-3
"""Errors below one in a thousand are not told apart: a split of 1,000 images counts no smaller one."""
REFIT = 1.25
"""The kernel is fitted anew when there are so many times more observations than at the last time.

Smaller: it follows the trials closely; larger: the costly fit of its scales happens more rarely.
"""
FRACTIONS = {*SCORES, "sparsity_achieved"} - {"cross_entropy"}


def features(space: SearchSpace, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
    """Turns points of a space into (n, d) numbers in [0, 1]: ordered parameters by their place, names one by one.

    A parameter that a point lacks stands in the middle, and a flag says so.
    """
    columns = []
    for name, parameter in space.root.items():
        found = [point.get(name) for point in points]
        if parameter.ordered:
            last = max(1, len(parameter.values) - 1)
            places = {value: i / last for i, value in enumerate(parameter.values)}
            columns.append([0.5 if v is None else places.get(v, 0.5) for v in found])
        else:
            columns += [[float(v == value) for v in found] for value in parameter.values]
        if any(v is None for v in found) or space.conditional:
            columns.append([float(v is None) for v in found])
    return np.array(columns, dtype=np.float64).T.reshape(len(points), len(columns))


class Surrogate:
    """A Gaussian process over point and rung for one metric, on a scale where equal steps mean equally much.

    Fractions right are seen as the logarithm of the error, sizes and counts as their logarithm. The rung is one more
    coordinate, so that cheap trials inform the prediction of full ones as far as the two agree (autoregressive
    multi-fidelity models: Kennedy and O'Hagan, Biometrika 87(1), 2000; here one stationary kernel).
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._process: GaussianProcessRegressor | None = None
        self._fitted = 0
        self._mean, self._scale = 0.0, 1.0

    def fit(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Learns from (n, d) rows and (n,) values of the metric; n at least 1."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        seen = self._seen(values)
        self._mean, self._scale = float(seen.mean()), float(seen.std()) or 1.0
        if self._process is not None and len(rows) < REFIT * self._fitted:
            kernel, optimizer = self._process.kernel_, None
        else:
            shape = Matern([1.0] * rows.shape[1], length_scale_bounds=(0.1, 10.0), nu=2.5)
            kernel = ConstantKernel(1.0, (0.1, 10.0)) * shape + WhiteKernel(1e-3, (1e-5, 1e-1))
            optimizer, self._fitted = "fmin_l_bfgs_b", len(rows)
        self._process = GaussianProcessRegressor(kernel, optimizer=optimizer, alpha=1e-8, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound
            self._process.fit(rows, (seen - self._mean) / self._scale)

    def draw(self, rows: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Returns (n, s) values of the metric at (n, d) rows, for (s,) draws of a standard normal."""
        mean, deviation = self._predict(rows)
        return self._unseen(mean[:, None] + deviation[:, None] * normal)

    def median(self, rows: np.ndarray) -> np.ndarray:
        """Returns (n,) the most likely values at (n, d) rows."""
        return self._unseen(self._predict(rows)[0])

    def _predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._process is not None, "fit comes first"
        mean, deviation = self._process.predict(rows, return_std=True)
        return mean * self._scale + self._mean, deviation * self._scale

    def _seen(self, values: np.ndarray) -> np.ndarray:
        error, size = np.clip(1.0 - values, MIN_ERROR, None), np.maximum(values, 1e-12)
        seen: np.ndarray = -np.log(error) if self._metric in FRACTIONS else np.log(size)
        return seen

    def _unseen(self, seen: np.ndarray) -> np.ndarray:
        values: np.ndarray = 1.0 - np.exp(-seen) if self._metric in FRACTIONS else np.exp(seen)
        return values
