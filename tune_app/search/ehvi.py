"""Ehvi: the next trial is the one that promises most new hypervolume for a second of training.

Expected hypervolume improvement (Emmerich, Giannakoglou and Naujoks, IEEE TEVC 10(4), 2006) of the full schedule,
under a surrogate that has seen the trials of all rungs, divided by what the trial would still have to compute: stages
in the cache are free. The chosen point runs in full at once, or first at a lower rung where its outcome may spare the
full trial. Running trials teach the surrogate as if they had ended as predicted, so that parallel proposals keep apart.
The first few trials lie far from each other instead, for what they compute.
"""

import functools
import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from search_spaces.parameters import coordinates
from search_spaces.rungs import FULL
from tune_app.frontier.hypervolume_gain import FreeSpace, free_space
from tune_app.frontier.objectives import costs_of, is_feasible, judged, learnable
from tune_app.frontier.pareto import costs, hypervolume, non_dominated
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.candidates import Candidate, Candidates
from tune_app.search.prices import Prices
from tune_app.search.strategy import NEXT, OUTLOOK, Choice, Outlook, Setting, StepsOf, Strategy
from tune_app.surrogates.evidence import Evidence, Seen
from tune_app.surrogates.features import features
from tune_app.surrogates.gains import ExpectedGains

MOST_STEPS = 1_000
"""Trials whose steps are remembered: those that run are asked for with every proposal."""
FIRST = 1
"""Corners of the space that come before any model: more of them cost trials, and a frontier has few."""
SPREAD, LOOK = 4.0, 0.5
"""Trials that lie far from each other, before any model, and what one at a lower rung counts among them.

Fewer: the model begins with effects that it could not have seen; more: they cost what the model would have saved. On
the two whole tables of `benchmarks/results` (4 workers, seeds 0 to 31) they save 4 and 6 % of the training with a rung,
5 and 12 % without; eight full trials cost 4 % more than none on the one of ResNet-8, sixteen looks 18 % on digits.
Trials that tell most of all points for a second, by the process before it has seen any, need 0.86, 1.15 and 1.03 of
what these need on digits and 1.04, 1.04 and 0.90 on ResNet-8 (4, 16 and 64 workers): no better.
"""


class Ehvi(Strategy):
    """Proposes the point and rung that promise most per second, from records alone.

    Points are told apart by the keys of their configurations: two points may be the same one.
    """

    def __init__(self, setting: Setting) -> None:
        spec = self._spec = setting.spec
        self._ladder, self._bounds, self._key_of = setting.ladder, setting.bounds, setting.key_of
        steps = functools.lru_cache(MOST_STEPS)(lambda point, rung: setting.steps_of(dict(point), rung))
        self._steps_of: StepsOf = lambda params, rung: steps(coordinates(params), rung)
        self._directions = list(spec.objectives.values())
        self._corner = costs_of(setting.reference, spec)
        self._evidence = Evidence(spec, setting.reference)
        self._prices = Prices(self._steps_of)
        self._reached: dict[str, dict[str, bool]] = {}
        """The rungs at which each configuration has ended, and whether a higher one may follow."""
        self._refused: set[str] = set()
        """Configurations that break a bound."""
        self._front = np.empty((0, len(self._directions)))
        """Costs of the feasible full trials that no other dominates."""
        self._named = setting.first_points()
        self._first = [*self._named, *spec.space.corners(spec.sampler.seed)[:FIRST]]
        self._seed = setting.seed
        self._rng = np.random.default_rng([spec.sampler.seed, setting.finished])
        self._outlook: Outlook | None = None

    @property
    def outlook(self) -> Outlook | None:
        """The ten trials that promise most, each by itself: together they bring that at most."""
        return self._outlook

    def advise(self, record: TrialRecord) -> None:
        """Takes a full trial of another base, before the first proposal."""
        work, metrics = record.assignment, judged(record, self._spec)
        if metrics and work.rung == FULL and self._spec.space.contains(work.params):
            self._evidence.advise(work.params, metrics)

    @functools.cached_property
    def _candidates(self) -> Candidates:
        """Drawn and priced when the first proposal is asked for: a search that is over needs none."""
        found = Candidates(self._spec.space, self._key_of, self._steps_of, named=self._named, seed=self._seed)
        for seen in self._evidence.trials:
            self._lead(found, seen)
        return found

    def _lead(self, candidates: Candidates, seen: Seen) -> None:
        """Adds what a trial leads to: the point itself after a lower rung, what lies near one of the front."""
        if seen.rung != FULL:
            candidates.take([seen.params])
        elif (seen.costs == self._front).all(axis=1).any():
            candidates.look_near(seen.params)

    def replay(self, record: TrialRecord) -> None:
        """Learns from a finished trial, of any state; of another space or rung, only that it has run."""
        work, metrics = record.assignment, learnable(record, self._spec)
        self._reached.setdefault(work.config_key, {})[work.rung] = bool(metrics)
        if work.rung not in self._spec.rungs or not self._spec.has_point(work.params):
            return
        self._prices.learn(record)
        if not metrics:
            return
        seen = self._evidence.add(work.params, work.rung, metrics)
        if work.rung == FULL and is_feasible(judged(record, self._spec), self._spec):
            rows = np.r_[self._front, seen.costs[None]]
            self._front = rows[non_dominated(rows)]
        if "_candidates" in self.__dict__:
            self._lead(self._candidates, seen)

    def suggest(self, pending: Sequence[Assignment]) -> Choice | None:
        """Returns the most promising trial, or None when every point has run in full, or waits for a running trial."""
        in_use, busy = self._ladder.rungs, {work.config_key for work in pending}
        while self._first:
            params = self._first.pop(0)
            key = self._key_of(params)
            if key not in self._reached and key not in busy and not self._is_refused(params, key):
                return Choice(params, in_use[0])

        def is_open(key: str) -> bool:
            return key not in busy and key not in self._refused and self._rung_of(key, in_use) is not None

        open_ones = [candidate for candidate in self._candidates if is_open(candidate.key)]
        chosen = self._chosen(open_ones, pending, busy, in_use)
        if chosen is None:
            last = self._candidates.next_of_all(lambda point, key: is_open(key) and not self._is_refused(point, key))
            chosen = self._chosen(last, pending, busy, in_use)
        return chosen

    def _chosen(
        self, candidates: Sequence[Candidate], pending: Sequence[Assignment], busy: set[str], in_use: Sequence[str]
    ) -> Choice | None:
        """Returns the best of these candidates, or None if the bounds allow none."""
        if not candidates:
            return None
        coming = {step.key for work in pending for step in self._steps_of(work.params, work.rung)}
        if not self._evidence or self._is_too_early([work.rung for work in pending]):
            return self._most_remote(candidates, pending, coming, in_use)
        running = features(self._spec.space, [work.params for work in _once(pending)])
        self._evidence.teach(running)
        return self._most_promising(candidates, busy, self._free_space(running), coming)

    def _is_too_early(self, running: Sequence[str]) -> bool:
        """Returns whether the trials, with those at the rungs given, are too few for a model; advice stands in."""
        rungs = itertools.chain(running, (trial.rung for trial in self._evidence.trials))
        enough = itertools.islice(rungs, int(SPREAD / LOOK))  # so many are never too few, and the others need no look
        return not self._evidence.is_advised and sum(1.0 if rung == FULL else LOOK for rung in enough) < SPREAD

    def _most_remote(
        self,
        candidates: Sequence[Candidate],
        pending: Sequence[Assignment],
        coming: Collection[str],
        in_use: Sequence[str],
    ) -> Choice | None:
        """Returns the point that lies farthest from all that were tried, for what its first trial computes."""
        rungs = [str(self._rung_of(candidate.key, in_use)) for candidate in candidates]
        steps = [self._steps_of(candidate.params, rung) for candidate, rung in zip(candidates, rungs, strict=True)]
        tried = [*(trial.params for trial in self._evidence.trials), *(work.params for work in pending)]
        far = _squared_distances(np.stack([c.row for c in candidates]), features(self._spec.space, tried))
        worth = far / self._prices.seconds(steps, coming)
        order = sorted(self._rng.permutation(len(candidates)), key=lambda i: -worth[i])
        return next((Choice(candidates[i].params, rungs[i]) for i in self._allowed(candidates, order)), None)

    def _most_promising(
        self, candidates: Sequence[Candidate], busy: set[str], space: FreeSpace, coming: Collection[str]
    ) -> Choice | None:
        expected = ExpectedGains(self._spec, self._evidence.surrogates, space)
        gains = expected.in_full(np.stack([candidate.row for candidate in candidates]))
        seconds = np.array(self._prices.seconds([candidate.steps for candidate in candidates], coming))
        rates = gains / seconds
        ranked = np.argsort(-rates, kind="stable")
        order = self._allowed(candidates, ranked)
        best, next_best = next(order, None), next(order, None)
        self._candidates.renew([candidates[i] for i in ranked if candidates[i].key not in self._refused], busy)
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
        lower = in_use[in_use.index(str(self._rung_of(chosen.key, in_use))) : -1]
        [in_full] = self._prices.seconds([chosen.steps], coming)
        worth = {FULL: gain - rate * in_full}
        for rung in lower:
            steps = self._steps_of(chosen.params, rung)
            [first] = self._prices.seconds([steps], coming)
            [then] = self._prices.seconds([chosen.steps], {*coming, *(step.key for step in steps)})
            after = expected.after(chosen.row, self._evidence.rungs.index(rung)) - rate * then
            worth[rung] = float(np.maximum(after, 0.0).mean()) - rate * first
        return max(worth, key=lambda rung: worth[rung])

    def _rung_of(self, key: str, in_use: Sequence[str]) -> str | None:
        """Returns the lowest rung above those that a point has seen; None after the full schedule or a failure."""
        reached = self._reached.get(key)
        if reached is None:
            return in_use[0]
        if FULL in reached or any(not reached.get(rung, True) for rung in in_use):
            return None
        return in_use[max((i for i, rung in enumerate(in_use) if rung in reached), default=-1) + 1]

    def _allowed(self, candidates: Sequence[Candidate], order: Sequence[int] | np.ndarray) -> Iterator[int]:
        """Yields the places of an order whose candidates keep the bounds; each is asked only when it is its turn."""
        return (i for i in order if not self._is_refused(candidates[i].params, candidates[i].key))

    def _is_refused(self, params: Params, key: str) -> bool:
        if self._bounds(params):
            self._refused.add(key)
        return key in self._refused

    def _free_space(self, running: np.ndarray) -> FreeSpace:
        """Returns what the front, and what running trials with these (m, d) features are believed to reach, leave.

        A trial that is believed to break a bound takes nothing. One at a lower rung takes as much as one in full: left
        out, 64 workers need 0.87 to 0.99 of the training, but 4 and 16 need 0.96 to 1.26 (accuracy and bytes or bops,
        two tables; 6 and 16 seeds from 0 on).
        """
        front = self._front
        if len(running):
            medians = {name: surrogate.median(running) for name, surrogate in self._evidence.surrogates.items()}
            believed = costs(np.stack([medians[name] for name in self._spec.objectives], axis=-1), self._directions)
            kept = np.full(len(running), fill_value=True)
            for bound in self._spec.constraints:
                kept &= [bound.violation(value) <= 0 for value in medians[bound.metric]]
            front = np.r_[front, believed[kept]]
        return free_space(front, self._corner)


def _once(pending: Sequence[Assignment]) -> list[Assignment]:
    """Returns one assignment of each configuration, in an order that does not depend on which began first."""
    found = {work.config_key: work for work in pending}
    return sorted(found.values(), key=lambda work: coordinates(work.params))


def _squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns (n,) squared distances of (n, d) rows to the nearest of (m, d) others; 1 if there is none."""
    from scipy.spatial.distance import cdist

    found: np.ndarray = cdist(rows, others, "sqeuclidean").min(axis=1) if len(others) else np.ones(len(rows))
    return found
