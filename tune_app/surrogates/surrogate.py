"""Surrogate: what a metric will be with the full schedule, learned from trials of all rungs."""

import numpy as np

from trainables.results import SCORES
from tune_app.surrogates.process import Process, fit_process

MIN_ERROR = 1e-3
"""Errors below one in a thousand are not told apart: a split of 1,000 images counts no smaller one."""
REFIT = 1.25
"""The parameters are fitted anew when there are so many times more observations than at the last time.

Smaller: they follow the trials closely; larger: the costly fit happens more rarely.
"""
BEYOND = 0.5
"""The weight of differences beyond the corner of the hypervolume, where nothing is gained.

With 1, one point that collapsed (0.54 where others have 0.98) makes its whole row of the space look hopeless; with
0.1, points far beyond the corner look as if they might lie before it. Of 0.1, 0.2, 0.3, 0.5, 0.7 and 1, a half needed
the least training on `benchmarks/results/search_table.parquet` and 0.89 of what 0.1 needed on
`benchmarks/results/search_resnet8.parquet`, where 1 needed 0.83 (4 workers, seeds 0 to 39).
"""
LARGEST = 100.0
"""The largest logarithm that a prediction may have: no metric comes near it, and none overflows."""
FRACTIONS = {*SCORES, "sparsity_achieved"} - {"cross_entropy"}


class Surrogate:
    """What trials of the full schedule will report of one metric, learned from those of all rungs.

    It sees a metric on a scale where equal steps mean equally much: fractions right as the logarithm of the error,
    sizes and counts as their logarithm; beyond `corner`, the worst value that counts (None: there is none), steps
    shrink. `rungs` is how many there are, the full schedule's among them.
    """

    def __init__(self, metric: str, *, rungs: int, corner: float | None = None, larger_is_better: bool = True) -> None:
        self._metric, self._lower = metric, rungs - 1
        self._sign = 1.0 if larger_is_better else -1.0
        self._corner = None if corner is None else float(self._scaled(np.array([corner]))[0])
        self._start: np.ndarray | None = None
        self._fitted = 0
        self._mean, self._deviation = 0.0, 1.0
        self._learned: Process | None = None
        self._believed: Process | None = None

    def fit(self, rows: np.ndarray, rungs: np.ndarray, values: np.ndarray, *, advised: int = 0) -> None:
        """Learns from (n, d) rows of features, (n,) numbers of rungs and (n,) values of the metric; n at least 1.

        The first `advised` of them, fewer than n, are of another base, where values may have another mean and spread.
        """
        advice, seen = np.split(self._seen(values), [advised])
        self._mean, self._deviation = float(seen.mean()), float(seen.std()) or 1.0
        standard = (seen - self._mean) / self._deviation
        if advised:
            standard = np.r_[(advice - advice.mean()) / (advice.std() or 1.0), standard]
        if self._learned is None or len(rows) >= REFIT * self._fitted:
            self._learned, self._start = fit_process(rows, rungs, standard, lower_rungs=self._lower, start=self._start)
            self._fitted = len(rows)
        else:
            self._learned = Process(self._learned.parameters, rows, rungs, standard)
        self._believed = self._learned

    def believe(self, rows: np.ndarray) -> None:
        """Learns from (m, d) rows whose trials run as if they had ended in full, as predicted, until the next fit."""
        assert self._learned is not None, "fit comes first"
        self._believed = self._learned.believing(rows, self._in_full(rows))

    def draw(self, rows: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Returns (n, s) values that trials of (n, d) rows may report, for (s,) numbers of a standard normal."""
        mean, deviation = self._process.predict(rows, self._in_full(rows))
        return self._reported(mean[:, None], deviation[:, None], normal)

    def draw_after(self, row: np.ndarray, rung: int, outcomes: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Returns (t, s) values that a trial of a (d,) row may report in full, once it has been tried at a lower rung.

        (t,) numbers of a standard normal say how that came out, (s,) further ones what it leaves open.
        """
        told = self._process.correlation(row, rung)
        [mean], [deviation] = self._process.predict(row[None], self._in_full(row[None]))
        left = deviation * np.sqrt(1.0 - told**2)
        return self._reported(mean + deviation * told * outcomes[:, None], left, normal)

    def median(self, rows: np.ndarray) -> np.ndarray:
        """Returns (n,) the most likely values at (n, d) rows."""
        return self._unseen(self._process.mean(rows, self._in_full(rows)) * self._deviation + self._mean)

    @property
    def _process(self) -> Process:
        assert self._believed is not None, "fit comes first"
        return self._believed

    def _in_full(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self._lower)

    def _reported(self, mean: np.ndarray, deviation: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """A trial reports its noise too."""
        noisy = np.sqrt(deviation**2 + self._process.parameters.noise)
        return self._unseen((mean + noisy * normal) * self._deviation + self._mean)

    def _seen(self, values: np.ndarray) -> np.ndarray:
        return self._bent(self._scaled(values), BEYOND)

    def _unseen(self, seen: np.ndarray) -> np.ndarray:
        scaled = np.clip(self._bent(seen, 1.0 / BEYOND), -LARGEST, LARGEST)
        values: np.ndarray = 1.0 - np.exp(-scaled) if self._metric in FRACTIONS else np.exp(scaled)
        return values

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        error, size = np.clip(1.0 - values, MIN_ERROR, None), np.maximum(values, 1e-12)
        scaled: np.ndarray = -np.log(error) if self._metric in FRACTIONS else np.log(size)
        return scaled

    def _bent(self, scaled: np.ndarray, slope: float) -> np.ndarray:
        """Stretches or shrinks what lies beyond the corner."""
        if self._corner is None:
            return scaled
        beyond = np.minimum(0.0, self._sign * (scaled - self._corner))
        bent: np.ndarray = scaled + self._sign * beyond * (slope - 1.0)
        return bent
