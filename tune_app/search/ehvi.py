"""Ehvi: the next trial is the one that promises most new hypervolume for a second of training.

Expected hypervolume improvement (Emmerich, Giannakoglou and Naujoks, IEEE TEVC 10(4), 2006) of the full schedule,
under a surrogate that has seen the trials of all rungs, divided by what the trial would still have to compute: stages
in the cache are free. The chosen point runs in full at once, or first at a lower rung where its outcome may spare the
full trial. Running trials teach the surrogate as if they had ended as predicted, so that parallel proposals keep apart.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

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
DRAWS = 64
"""Draws of the surrogates for each expected gain: more make it less noisy, and each costs a hypervolume."""
WIDTH = 1.4
"""Standard deviations of the draws, which have weights to match: so the few that gain most are among them."""
OUTCOMES, DRAWS_AFTER = 16, 32
"""How many outcomes of a lower rung are thought through, and with how many draws of what each leaves open."""
FIRST = 1
"""Corners of the space that come before any model: more of them cost trials, and a frontier has few."""
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
        self._rungs = list(spec.rungs)
        self._surrogates = {name: self._surrogate(name, setting.reference) for name in spec.metrics}
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
        running = {(coordinates(work.params), work.rung) for work in pending}
        busy = {point for point, _ in running}
        while self._first:
            params = self._first.pop(0)
            rung = self._rung_of(params)
            if coordinates(params) not in busy and rung is not None and not self._bounds(params):
                return Choice(params, rung)
        candidates = [p for p in self._candidates() if coordinates(p) not in busy and self._rung_of(p) is not None]
        ready = self._ready | {step.key for point, rung in running for step in self._steps(point, rung)}
        complete = [place for place, metrics in self._seen.items() if metrics is not None and place[1] in self._rungs]
        if not complete:
            return self._cheapest(candidates, ready)
        self._learn(complete, busy)
        return self._most_promising(candidates, busy, ready) if candidates else None

    def _cheapest(self, candidates: Sequence[Params], ready: set[str]) -> Choice | None:
        """Returns a point whose first trial computes least, while nothing is known: it shares what others compute."""
        shuffled = [candidates[i] for i in self._rng.permutation(len(candidates))]
        choices = [Choice(params, str(self._rung_of(params))) for params in shuffled]
        by_price = sorted(choices, key=lambda choice: self._seconds(choice.params, choice.rung, ready))
        return next((choice for choice in by_price if not self._bounds(choice.params)), None)

    def _most_promising(
        self, candidates: Sequence[Params], busy: Iterable[Coordinates], ready: set[str]
    ) -> Choice | None:
        front = self._front(busy)
        gains = self._gains(candidates, front)
        rates = gains / [self._seconds(params, FULL, ready) for params in candidates]
        order = (i for i in np.argsort(-rates, kind="stable") if not self._bounds(candidates[i]))
        best, next_best = next(order, None), next(order, None)
        if best is None:
            return None
        rate = 0.0 if next_best is None else float(rates[next_best])
        return Choice(candidates[best], self._best_rung(candidates[best], float(gains[best]), rate, front, ready))

    def _best_rung(self, params: Params, gain: float, rate: float, front: np.ndarray, ready: set[str]) -> str:
        """Returns the rung at which a point is best tried next, by what a second is worth elsewhere.

        The full schedule is worth its expected gain less its seconds at that rate. A lower rung costs its own seconds,
        and the full schedule follows only after the outcomes in which it is still worth more than its seconds.
        """
        in_use = self._ladder.rungs
        lower = in_use[in_use.index(str(self._rung_of(params))) : -1]
        worth = {FULL: gain - rate * self._seconds(params, FULL, ready)}
        [row] = features(self._spec.space, [params])
        for rung in lower:
            number = self._rungs.index(rung)
            then = ready | {step.key for step in self._steps(coordinates(params), rung)}
            outcomes, left = _quantiles(OUTCOMES), _quantiles(DRAWS_AFTER)
            drawn = {
                name: surrogate.draw_after(row, number, self._rng.permutation(outcomes), self._rng.permutation(left))
                for name, surrogate in self._surrogates.items()
            }
            after = self._improvements(drawn, front).mean(axis=-1) - rate * self._seconds(params, FULL, then)
            worth[rung] = float(np.maximum(after, 0.0).mean()) - rate * self._seconds(params, rung, ready)
        return max(worth, key=lambda rung: worth[rung])

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

    def _surrogate(self, metric: str, reference: Mapping[str, float]) -> Surrogate:
        direction = self._spec.objectives.get(metric)
        corner = None if direction is None else reference[metric]
        return Surrogate(metric, rungs=len(self._rungs), corner=corner, larger_is_better=direction != "minimize")

    def _learn(self, places: Sequence[tuple[Coordinates, str]], busy: Iterable[Coordinates]) -> None:
        """Fits a surrogate for each metric; the full schedule's trials first where there are too many."""
        kept = sorted(places, key=lambda place: -self._rungs.index(place[1]))[:MAX_OBSERVATIONS]
        rows = features(self._spec.space, [dict(point) for point, _ in kept])
        rungs = np.array([self._rungs.index(rung) for _, rung in kept])
        running = features(self._spec.space, [dict(point) for point in sorted(busy)])
        for name, surrogate in self._surrogates.items():
            surrogate.fit(rows, rungs, np.array([(self._seen[place] or {})[name] for place in kept]))
            if len(running):
                surrogate.believe(running)

    def _gains(self, candidates: Sequence[Params], front: np.ndarray) -> np.ndarray:
        """Returns the (n,) mean improvement of the hypervolume by each candidate's full schedule."""
        rows = features(self._spec.space, candidates)
        normals = {name: self._rng.permutation(WIDTH * _quantiles(DRAWS)) for name in self._surrogates}
        drawn = {name: surrogate.draw(rows, normals[name]) for name, surrogate in self._surrogates.items()}
        far = np.sum([normal**2 for normal in normals.values()], axis=0)
        weights = np.exp(-0.5 * far * (1.0 - WIDTH**-2))
        mean: np.ndarray = self._improvements(drawn, front) @ (weights / weights.sum()) + 1e-12
        return mean

    def _improvements(self, drawn: Mapping[str, np.ndarray], front: np.ndarray) -> np.ndarray:
        """Returns (...,) improvements of the hypervolume by values of each metric, 0 where a bound is broken."""
        samples = costs(np.stack([drawn[name] for name in self._spec.objectives], axis=-1), self._directions)
        gains = improvement(front, self._corner, samples)
        for bound in self._spec.constraints:
            sign = 1.0 if bound.sense == "<=" else -1.0
            gains = np.where(sign * (drawn[bound.metric] - bound.bound) <= 0, gains, 0.0)
        return gains

    def _front(self, busy: Iterable[Coordinates]) -> np.ndarray:
        """Returns the (m, k) costs of the feasible full trials, and those that running points are believed to reach."""
        found = [
            [metrics[name] for name in self._spec.objectives]
            for (_, rung), metrics in self._seen.items()
            if rung == FULL and metrics is not None and is_feasible(metrics, self._spec)
        ]
        running = features(self._spec.space, [dict(point) for point in sorted(busy)])
        if len(running):
            believed = [self._surrogates[name].median(running) for name in self._spec.objectives]
            found += np.stack(believed, axis=-1).tolist()
        return costs(np.array(found).reshape(-1, len(self._directions)), self._directions)

    def _seconds(self, params: Params, rung: str, ready: set[str]) -> float:
        """Estimates what a trial would compute: the epochs that are missing, at the pace of each kind so far."""
        paces = {kind: seconds / max(1.0, epochs) for kind, (seconds, epochs) in self._spent.items()}
        usual = float(np.mean(list(paces.values()))) if paces else 1.0
        missing = [step for step in self._steps(coordinates(params), rung) if step.key not in ready]
        return OVERHEAD_S + sum(paces.get(step.kind, usual) * step.epochs for step in missing)


@functools.cache
def _quantiles(count: int) -> np.ndarray:
    """Returns (count,) quantiles of a standard normal that are equally probable."""
    from scipy.special import ndtri

    quantiles: np.ndarray = ndtri((np.arange(count) + 0.5) / count)
    return quantiles


def _neighbors(params: Params, spec: ExperimentSpec) -> list[Params]:
    """Returns the points that differ by one place of one parameter."""
    found = []
    for name, value in params.items():
        values = spec.space.root[name].values
        if value in values:
            place = values.index(value)
            found += [{**params, name: values[i]} for i in (place - 1, place + 1) if 0 <= i < len(values)]
    return found
