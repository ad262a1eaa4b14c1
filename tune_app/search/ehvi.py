"""Ehvi: the next trial is the one that promises most new hypervolume for a second of training.

Expected hypervolume improvement (Emmerich, Giannakoglou and Naujoks, IEEE TEVC 10(4), 2006) of the full schedule,
under a surrogate that has seen the trials of all rungs, divided by what the trial would still have to compute: stages
in the cache are free. A point climbs from rung to rung as long as it stays the most promising one. Running trials
count as if they had ended as predicted, so that parallel proposals keep apart.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from search_spaces.rungs import FULL
from trainables.results import Completed
from tune_app.frontier.hypervolume_gain import improvement
from tune_app.frontier.objectives import costs_of, is_feasible, judged
from tune_app.frontier.pareto import costs
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.keys import Coordinates, coordinates
from tune_app.search.strategy import Choice, Setting, Strategy
from tune_app.search.surrogate import Surrogate, features
from tune_app.spec.experiment import ExperimentSpec

MAX_CANDIDATES = 2_000
"""Points that are compared for a proposal: more find better ones in a large space, and take longer to predict."""
MAX_OBSERVATIONS = 400
"""Trials that the surrogates learn from: a Gaussian process costs the cube of their number."""
DRAWS = 48
"""Draws of the surrogates for each expected gain: more make it less noisy, and each costs a hypervolume."""
FIRST = 4
"""Corners of the space that come before any model: with fewer it extrapolates, more cost full trials."""
OVERHEAD_S = 0.3
"""Seconds of every trial beside its stages (write, decode, evaluate), so that no trial is free."""


class Ehvi(Strategy):
    """Proposes the point and rung that promise most per second, from records alone, whatever their order.

    It takes no advice: on another base a surrogate would be wrong by an unknown amount.
    """

    def __init__(self, setting: Setting) -> None:
        spec = self._spec = setting.spec
        self._ladder, self._bounds = setting.ladder, setting.bounds
        self._directions = list(spec.objectives.values())
        self._corner = costs_of(setting.reference, spec)
        self._surrogates = {name: Surrogate(name) for name in spec.metrics}
        self._seen: dict[tuple[Coordinates, str], dict[str, float] | None] = {}
        self._steps = functools.cache(lambda point, rung: setting.steps_of(dict(point), rung))
        """The steps of a point, by its coordinates, at a rung; remembered: all candidates are priced each time."""
        self._ready: set[str] = set()
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._first = [*setting.first_points(), *spec.space.corners(spec.sampler.seed)[:FIRST]]
        self._rng = np.random.default_rng(spec.sampler.seed)

    def replay(self, record: TrialRecord) -> None:
        """Learns from a finished trial, of any state."""
        work = record.assignment
        self._seen[coordinates(work.params), work.rung] = judged(record, self._spec) or None
        if not isinstance(record.result, Completed):
            return
        epochs = {step.key: step.epochs for step in self._steps(coordinates(work.params), work.rung)}
        for stage in record.result.stages:
            self._ready.add(stage.key)
            if not stage.cached and stage.key in epochs:
                seconds, done = self._spent[stage.kind]
                self._spent[stage.kind] = [seconds + stage.seconds, done + epochs[stage.key]]

    def suggest(self, pending: Sequence[Assignment]) -> Choice | None:
        """Returns the most promising trial, or None when every point has run in full, or waits for a running trial."""
        params = self._best(pending)
        return None if params is None else Choice(params, str(self._rung_of(params)))

    def _best(self, pending: Sequence[Assignment]) -> Params | None:
        running = {(coordinates(work.params), work.rung) for work in pending}
        busy = {point for point, _ in running}
        while self._first:
            params = self._first.pop(0)
            if coordinates(params) not in busy and self._rung_of(params) is not None and not self._bounds(params):
                return params
        candidates = [p for p in self._candidates() if coordinates(p) not in busy and self._rung_of(p) is not None]
        if not candidates:
            return None
        complete = [place for place, metrics in self._seen.items() if metrics is not None]
        if complete:
            self._learn(complete)
            ready = self._ready | {step.key for point, rung in running for step in self._steps(point, rung)}
            prices = np.array([self._seconds(params, FULL, ready) for params in candidates])
            order = np.argsort(-self._gains(candidates, busy) / prices, kind="stable")
        else:
            order = self._rng.permutation(len(candidates))
        return next((candidates[i] for i in order if not self._bounds(candidates[i])), None)

    def _candidates(self) -> list[Params]:
        """Returns all points of a small space; of a large one a sample, and what lies next to the best."""
        space = self._spec.space
        if space.size <= MAX_CANDIDATES:
            return list(space.grid())
        count = MAX_CANDIDATES // 2
        found = [space.point(int(i)) for i in self._rng.integers(space.size, size=count)]
        for (point, rung), metrics in self._seen.items():
            if rung == FULL and metrics is not None:
                found += _neighbors(dict(point), self._spec)
        return list({coordinates(p): p for p in found if space.contains(p)}.values())[: 2 * MAX_CANDIDATES]

    def _rung_of(self, params: Params) -> str | None:
        """Returns the lowest rung above those that a point has seen; None after the full schedule or a failure."""
        rungs, point = self._ladder.rungs, coordinates(params)
        seen = [i for i, rung in enumerate(rungs) if (point, rung) in self._seen]
        if any(self._seen[point, rungs[i]] is None for i in seen):
            return None
        place = max(seen, default=-1) + 1
        return rungs[place] if place < len(rungs) else None

    def _learn(self, places: Sequence[tuple[Coordinates, str]]) -> None:
        """Fits a surrogate for each metric; the full schedule's trials first where there are too many."""
        rungs = list(self._spec.rungs)
        kept = sorted(places, key=lambda place: -rungs.index(place[1]))[:MAX_OBSERVATIONS]
        rows = self._rows([dict(point) for point, _ in kept], [rung for _, rung in kept])
        for name, surrogate in self._surrogates.items():
            surrogate.fit(rows, np.array([(self._seen[place] or {})[name] for place in kept]))

    def _gains(self, candidates: Sequence[Params], busy: Iterable[Coordinates]) -> np.ndarray:
        """Returns the (n,) mean improvement of the hypervolume by each candidate's full schedule."""
        rows = self._rows(candidates, [FULL] * len(candidates))
        drawn = {
            name: surrogate.draw(rows, self._rng.standard_normal(DRAWS)) for name, surrogate in self._surrogates.items()
        }
        samples = costs(np.stack([drawn[name] for name in self._spec.objectives], axis=-1), self._directions)
        gains = improvement(self._front(busy), self._corner, samples)
        for bound in self._spec.constraints:
            sign = 1.0 if bound.sense == "<=" else -1.0
            gains = np.where(sign * (drawn[bound.metric] - bound.bound) <= 0, gains, 0.0)
        mean: np.ndarray = gains.mean(axis=1) + 1e-12
        return mean

    def _front(self, busy: Iterable[Coordinates]) -> np.ndarray:
        """Returns the (m, k) costs of the feasible full trials, and those that running points are believed to reach."""
        found = [
            [metrics[name] for name in self._spec.objectives]
            for (_, rung), metrics in self._seen.items()
            if rung == FULL and metrics is not None and is_feasible(metrics, self._spec)
        ]
        running = [dict(point) for point in busy]
        if running:
            rows = self._rows(running, [FULL] * len(running))
            believed = [self._surrogates[name].median(rows) for name in self._spec.objectives]
            found += np.stack(believed, axis=-1).tolist()
        return costs(np.array(found).reshape(-1, len(self._directions)), self._directions)

    def _rows(self, points: Sequence[Params], rungs: Sequence[str]) -> np.ndarray:
        """Returns features of points with the rung's share of the full schedule's epochs, as its square root."""
        training = self._spec.base.quantize.training
        full = 1 if training is None else max(1, training.epochs)
        shares = {name: 1.0 if rung is None else rung.qat_epochs / full for name, rung in self._spec.rungs.items()}
        rows: np.ndarray = np.c_[features(self._spec.space, points), np.sqrt([shares[rung] for rung in rungs])]
        return rows

    def _seconds(self, params: Params, rung: str, ready: set[str]) -> float:
        """Estimates what a trial would compute: the epochs that are missing, at the pace of each kind so far."""
        paces = {kind: seconds / max(1.0, epochs) for kind, (seconds, epochs) in self._spent.items()}
        usual = float(np.mean(list(paces.values()))) if paces else 1.0
        missing = [step for step in self._steps(coordinates(params), rung) if step.key not in ready]
        return OVERHEAD_S + sum(paces.get(step.kind, usual) * step.epochs for step in missing)


def _neighbors(params: Params, spec: ExperimentSpec) -> list[Params]:
    """Returns the points that differ by one place of one parameter."""
    found = []
    for name, value in params.items():
        values = spec.space.root[name].values
        if value in values:
            place = values.index(value)
            found += [{**params, name: values[i]} for i in (place - 1, place + 1) if 0 <= i < len(values)]
    return found
