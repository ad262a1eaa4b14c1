"""Ehvi: the next trial is the one that promises most new hypervolume for a second of training.

Expected hypervolume improvement (Emmerich, Giannakoglou and Naujoks, IEEE TEVC 10(4), 2006) of the full schedule,
under a surrogate that has seen the trials of all rungs, divided by what the trial would still have to compute: stages
in the cache are free. The chosen point runs in full at once, or first at a lower rung where its outcome may spare the
full trial. Running trials teach the surrogate as if they had ended as predicted, so that parallel proposals keep apart.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from search_spaces.rungs import FULL
from tune_app.frontier.hypervolume_gain import FreeSpace, free_space
from tune_app.frontier.objectives import costs_of, is_feasible, judged
from tune_app.frontier.pareto import costs, hypervolume, non_dominated, pareto_ranks
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.candidates import Candidate, Candidates
from tune_app.search.gains import ExpectedGains
from tune_app.search.keys import Coordinates, coordinates
from tune_app.search.prices import Prices
from tune_app.search.strategy import NEXT, OUTLOOK, Choice, Outlook, Setting, StepsOf, Strategy
from tune_app.search.surrogate import Surrogate, features

MOST_LEARNED = 200
"""Trials that the surrogates learn from: a proposal takes time with the square of their number."""
MOST_ADVISED = 100
"""Trials of another base that they learn from beside those."""
MOST_STEPS = 1_000
"""Trials whose steps are remembered: those that run are asked for with every proposal."""
FIRST = 1
"""Corners of the space that come before any model: more of them cost trials, and a frontier has few."""
Place = tuple[Coordinates, str]


class Seen(NamedTuple):
    """A trial that completed."""

    row: np.ndarray
    """(d,) features of its point."""
    metrics: Mapping[str, float]
    costs: np.ndarray
    """(k,) of the objectives, lower is better."""


class Ehvi(Strategy):
    """Proposes the point and rung that promise most per second, from records alone.

    Advice, full trials of another base, is one more rung below all others: how far it agrees is learned.
    """

    def __init__(self, setting: Setting) -> None:
        spec = self._spec = setting.spec
        self._ladder, self._bounds = setting.ladder, setting.bounds
        steps = functools.lru_cache(MOST_STEPS)(lambda point, rung: setting.steps_of(dict(point), rung))
        self._steps_of: StepsOf = lambda params, rung: steps(coordinates(params), rung)
        self._directions = list(spec.objectives.values())
        self._corner = costs_of(setting.reference, spec)
        self._reference = setting.reference
        self._advice: dict[Coordinates, Seen] = {}
        self._prices = Prices(self._steps_of)
        self._reached: dict[Coordinates, dict[str, bool]] = {}
        """The rungs at which each point has ended, and whether it completed there."""
        self._seen: dict[Place, Seen] = {}
        """The trials that completed."""
        self._front = np.empty((0, len(self._directions)))
        """Costs of the feasible full trials that no other dominates."""
        self._first = [*setting.first_points(), *spec.space.corners(spec.sampler.seed)[:FIRST]]
        self._rng = np.random.default_rng(spec.sampler.seed)
        self._outlook: Outlook | None = None

    @property
    def outlook(self) -> Outlook | None:
        """The ten trials that promise most, each by itself: together they bring that at most."""
        return self._outlook

    def advise(self, record: TrialRecord) -> None:
        """Takes a full trial of another base, before the first proposal."""
        metrics = judged(record, self._spec)
        if metrics and record.assignment.rung == FULL and self._spec.space.contains(record.assignment.params):
            seen = self._seen_at(record.assignment.params, metrics)
            self._advice[coordinates(record.assignment.params)] = seen

    @functools.cached_property
    def _rungs(self) -> list[str]:
        """The rungs that the surrogates tell apart; that of advice has no name."""
        return ["", *self._spec.rungs] if self._advice else list(self._spec.rungs)

    @functools.cached_property
    def _surrogates(self) -> dict[str, Surrogate]:
        return {name: self._surrogate(name) for name in self._spec.metrics}

    @functools.cached_property
    def _candidates(self) -> Candidates:
        """Drawn and priced when the first proposal is asked for: a search that is over needs none."""
        found = Candidates(self._spec.space, self._steps_of, self._rng)
        for place in self._seen:
            self._lead(found, place)
        return found

    def _lead(self, candidates: Candidates, place: Place) -> None:
        """Adds what a trial leads to: the point itself after a lower rung, what lies near one of the front."""
        point, rung = place
        if rung != FULL:
            candidates.take([dict(point)])
        elif (self._seen[place].costs == self._front).all(axis=1).any():
            candidates.look_near(dict(point))

    def replay(self, record: TrialRecord) -> None:
        """Learns from a finished trial, of any state."""
        work, metrics = record.assignment, judged(record, self._spec)
        place = coordinates(work.params), work.rung
        self._reached.setdefault(place[0], {})[work.rung] = bool(metrics)
        self._prices.learn(record)
        if metrics and work.rung in self._spec.rungs:
            seen = self._seen[place] = self._seen_at(work.params, metrics)
            if work.rung == FULL and is_feasible(metrics, self._spec):
                rows = np.r_[self._front, seen.costs[None]]
                self._front = rows[non_dominated(rows)]
            if "_candidates" in self.__dict__:
                self._lead(self._candidates, place)

    def suggest(self, pending: Sequence[Assignment]) -> Choice | None:
        """Returns the most promising trial, or None when every point has run in full, or waits for a running trial."""
        in_use, busy = self._ladder.rungs, {coordinates(work.params) for work in pending}
        while self._first:
            params = self._first.pop(0)
            rung = self._rung_of(coordinates(params), in_use)
            if coordinates(params) not in busy and rung is not None and not self._bounds(params):
                return Choice(params, rung)

        def is_open(point: Coordinates) -> bool:
            return point not in busy and self._rung_of(point, in_use) is not None

        open_ones = [c for c in self._candidates if is_open(c.point)] or self._candidates.next_of_all(is_open)
        coming = {step.key for work in pending for step in self._steps_of(work.params, work.rung)}
        if not self._seen:
            return self._cheapest(open_ones, coming, in_use)
        if not open_ones:
            return None
        running = features(self._spec.space, [dict(point) for point in sorted(busy)])
        self._learn(running)
        return self._most_promising(open_ones, busy, self._free_space(running), coming)

    def _cheapest(
        self, candidates: Sequence[Candidate], coming: Collection[str], in_use: Sequence[str]
    ) -> Choice | None:
        """Returns a point whose first trial computes least, while nothing is known: it shares what others compute."""
        rungs = [str(self._rung_of(candidate.point, in_use)) for candidate in candidates]
        steps = [self._steps_of(candidate.params, rung) for candidate, rung in zip(candidates, rungs, strict=True)]
        prices = self._prices.seconds(steps, coming)
        by_price = sorted(self._rng.permutation(len(candidates)), key=lambda i: prices[i])
        allowed = (i for i in by_price if not self._bounds(candidates[i].params))
        return next((Choice(candidates[i].params, rungs[i]) for i in allowed), None)

    def _most_promising(
        self, candidates: Sequence[Candidate], busy: set[Coordinates], space: FreeSpace, coming: Collection[str]
    ) -> Choice | None:
        expected = ExpectedGains(self._spec, self._surrogates, space)
        gains = expected.in_full(np.stack([candidate.row for candidate in candidates]))
        seconds = np.array(self._prices.seconds([candidate.steps for candidate in candidates], coming))
        rates = gains / seconds
        ranked = np.argsort(-rates, kind="stable")
        order = (i for i in ranked if not self._bounds(candidates[i].params))
        best, next_best = next(order, None), next(order, None)
        self._candidates.renew([candidates[i] for i in ranked], busy)
        if best is None:
            return None
        rate = 0.0 if next_best is None else float(rates[next_best])
        rung = self._best_rung(candidates[best], gains[best], rate, expected, coming)
        self._outlook = self._outlook_of(gains[ranked[:NEXT]].sum(), seconds[ranked[:NEXT]].sum())
        attrs = {} if self._outlook is None else {OUTLOOK: self._outlook.model_dump()}
        return Choice(candidates[best].params, rung, attrs)

    def _outlook_of(self, gain: float, seconds: float) -> Outlook | None:
        """Returns what trials of this gain bring, if they share none of it; None: there is no volume yet."""
        volume = hypervolume(self._front, self._corner)
        return Outlook(growth=gain / volume, training_s=seconds) if volume > 0 else None

    def _best_rung(
        self, chosen: Candidate, gain: float, rate: float, expected: ExpectedGains, coming: Collection[str]
    ) -> str:
        """Returns the rung at which a point is best tried next, by what a second is worth elsewhere.

        The full schedule is worth its expected gain less its seconds at that rate. A lower rung costs its own seconds,
        and the full schedule follows only after the outcomes in which it is still worth more than its seconds.
        """
        in_use = self._ladder.rungs
        lower = in_use[in_use.index(str(self._rung_of(chosen.point, in_use))) : -1]
        [in_full] = self._prices.seconds([chosen.steps], coming)
        worth = {FULL: gain - rate * in_full}
        for rung in lower:
            steps = self._steps_of(chosen.params, rung)
            [first] = self._prices.seconds([steps], coming)
            [then] = self._prices.seconds([chosen.steps], {*coming, *(step.key for step in steps)})
            after = expected.after(chosen.row, self._rungs.index(rung)) - rate * then
            worth[rung] = float(np.maximum(after, 0.0).mean()) - rate * first
        return max(worth, key=lambda rung: worth[rung])

    def _rung_of(self, point: Coordinates, in_use: Sequence[str]) -> str | None:
        """Returns the lowest rung above those that a point has seen; None after the full schedule or a failure."""
        reached = self._reached.get(point)
        if reached is None:
            return in_use[0]
        if FULL in reached or any(not reached.get(rung, True) for rung in in_use):
            return None
        return in_use[max((i for i, rung in enumerate(in_use) if rung in reached), default=-1) + 1]

    def _surrogate(self, metric: str) -> Surrogate:
        direction = self._spec.objectives.get(metric)
        corner = None if direction is None else self._reference[metric]
        return Surrogate(metric, rungs=len(self._rungs), corner=corner, larger_is_better=direction != "minimize")

    def _seen_at(self, params: Params, metrics: Mapping[str, float]) -> Seen:
        [row] = features(self._spec.space, [params])
        return Seen(row, metrics, costs_of(metrics, self._spec))

    def _learn(self, running: np.ndarray) -> None:
        """Teaches the surrogates the trials that have ended, and those that run, whose (m, d) features are given."""
        places = self._worth_learning()
        advice = self._some_advice()
        trials = [*advice, *(self._seen[place] for place in places)]
        rows = np.stack([trial.row for trial in trials])
        rungs = np.array([0] * len(advice) + [self._rungs.index(rung) for _, rung in places])
        for name, surrogate in self._surrogates.items():
            values = np.array([trial.metrics[name] for trial in trials])
            surrogate.fit(rows, rungs, values, advised=len(advice))
            if len(running):
                surrogate.believe(running)

    def _some_advice(self) -> list[Seen]:
        """Returns the advice, or a part that is spread over it."""
        advice = list(self._advice.values())
        if len(advice) <= MOST_ADVISED:
            return advice
        return [advice[i] for i in np.linspace(0, len(advice) - 1, MOST_ADVISED).astype(int)]

    def _worth_learning(self) -> list[Place]:
        """Returns the places of all trials, or of a part where there are many.

        Two thirds are those of the full schedule that fewest others dominate; the others are spread over all the rest.
        """
        places = list(self._seen)
        if len(places) <= MOST_LEARNED:
            return places
        full = [place for place in places if place[1] == FULL]
        ranks = pareto_ranks(np.array([self._seen[place].costs for place in full]).reshape(-1, len(self._corner)))
        best = {full[i] for i in np.argsort(ranks, kind="stable")[: 2 * MOST_LEARNED // 3]}
        rest = [place for place in places if place not in best]
        spread = np.linspace(0, len(rest) - 1, MOST_LEARNED - len(best)).astype(int)
        chosen = best | {rest[i] for i in spread}
        return [place for place in places if place in chosen]

    def _free_space(self, running: np.ndarray) -> FreeSpace:
        """Returns what the front, and what running trials with these (m, d) features are believed to reach, leave."""
        front = self._front
        if len(running):
            believed = [self._surrogates[name].median(running) for name in self._spec.objectives]
            front = np.r_[front, costs(np.stack(believed, axis=-1), self._directions)]
        return free_space(front, self._corner)
