"""The table of a whole space, as models of a sample of its points foretell it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.search.table import Cell, Stage, Table, shared_keys
from trainables.results import SCORES
from tune_app.surrogates.features import features

FOLDS = 10
"""Parts of a sample of which each is foretold from all others, to tell the error."""


@dataclass(frozen=True)
class Error:
    """How far a model is off at points that it has not seen."""

    median: float
    """Of the absolute differences: of fractions in their own unit, of other metrics as shares of their values."""
    rank_correlation: float


def whole_space(sample: Table, metrics: Sequence[str]) -> Table:
    """A table of all points of the space of a sample, whose `metrics` and own seconds come from a model of each rung.

    A model has no luck: equal points are equally good. What a shared stage takes is known from the sample.
    """
    rows = features(sample.spec.space, sample.points)
    shared = {stage.key: stage for cell in sample.cells.values() for stage in cell.stages[:-1]}
    cells = {}
    for rung in sample.spec.rungs:
        fitted = {name: _fitted(sample, rung, name, rows) for name in [*metrics, "seconds"]}
        for i, point in enumerate(sample.points):
            key, values = sample.key(point), {name: fitted[name][i] for name in metrics}
            measured = {name: float(v) if name in SCORES else round(v) for name, v in values.items()}
            row = {**point, **measured, "rung": rung, "state": "complete", "reason": ""}
            own = Stage(("own", *key, rung), float(fitted["seconds"][i]))
            cells[key, rung] = Cell(row, (*(shared[each] for each in shared_keys(point)), own))
    return replace(sample, cells=cells)


def errors(sample: Table, metrics: Sequence[str]) -> dict[str, dict[str, Error]]:
    """The error of each rung's model of each metric, where nine tenths of the sample foretell the others."""
    return {rung: {name: _error(*_seen(sample, rung, name), name) for name in metrics} for rung in sample.spec.rungs}


def _seen(sample: Table, rung: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) features of the sample's points at a rung, and the (n,) values of a metric there."""
    cells = [cell for (_, at), cell in sample.cells.items() if at == rung and cell.row["state"] == "complete"]
    values = [cell.stages[-1].seconds if metric == "seconds" else float(cell.row[metric]) for cell in cells]
    return features(sample.spec.space, [cell.row for cell in cells]), np.array(values)


def _fitted(sample: Table, rung: str, metric: str, rows: np.ndarray) -> np.ndarray:
    """(m,) values of a metric at (m, d) rows, by the model of a rung."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a length that has come to its bound
        found: np.ndarray = _model(metric, rows.shape[1]).fit(*_seen(sample, rung, metric)).predict(rows)
    return found


def _error(rows: np.ndarray, values: np.ndarray, metric: str) -> Error:
    from scipy.stats import spearmanr
    from sklearn.model_selection import KFold, cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cross_val_predict(
            _model(metric, rows.shape[1]), rows, values, cv=KFold(FOLDS, shuffle=True, random_state=0)
        )
    off = np.abs(found - values) / (1.0 if metric in SCORES else values)
    return Error(float(np.median(off)), float(spearmanr(found, values)[0]))


def _model(metric: str, columns: int) -> Any:
    """Boosted trees of accuracy, whose steps are no searcher's idea of it; a smooth function of what is counted.

    Both see fractions right as the logarithm of the error, and everything else as its logarithm.
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    if metric in SCORES:
        trees = GradientBoostingRegressor(n_estimators=400, learning_rate=0.05, subsample=0.7, random_state=0)
        return TransformedTargetRegressor(trees, func=_log_error, inverse_func=_of_log_error)
    kernel = ConstantKernel() * Matern(np.ones(columns), nu=2.5) + WhiteKernel(0.1)
    smooth = GaussianProcessRegressor(kernel, normalize_y=True)
    return TransformedTargetRegressor(smooth, func=np.log, inverse_func=np.exp)


def _log_error(accuracy: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(1e-3, 1.0 - accuracy))


def _of_log_error(found: np.ndarray) -> np.ndarray:
    return 1.0 - np.exp(found)
