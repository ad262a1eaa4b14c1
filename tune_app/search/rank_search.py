"""RankSearch: new points from a sampler; they climb by their rank on the ladder."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from search_spaces.rungs import FULL
from search_spaces.samplers import ORDERS, SLOW, shuffled_grid
from tune_app.ledger.ledger import Assignment, Params, Place, TrialRecord
from tune_app.search.bounds import Screen
from tune_app.search.ladder import Ladder
from tune_app.search.strategy import Choice, KeyOf
from tune_app.search.study import Ask, Point, open_study
from tune_app.spec.experiment import ExperimentSpec

MAX_ASKS = 30
"""Proposals in a row that may be repeats before a random new point is taken instead; a slow sampler gets two."""
ENOUGH = 8
"""Complete records of a rung from which a sampler proposes; with fewer it learns from the rung below."""


@dataclass(frozen=True)
class _Open:
    """A trial that a study waits for."""

    rung: str
    ask: Ask


class RankSearch:
    """The strategy of Optuna's samplers and of the grid. Each rung has a study of its own: values of different rungs
    never meet in one.
    """

    def __init__(self, spec: ExperimentSpec, ladder: Ladder, *, key_of: KeyOf, screen: Screen, finished: int) -> None:
        self._spec, self._ladder, self._key_of, self._screen = spec, ladder, key_of, screen
        self._ordered = spec.sampler.name in ORDERS
        taught = [FULL] if self._ordered else list(spec.rungs)
        self._studies = {rung: open_study(spec, finished=finished) for rung in taught}
        self._complete: Counter[str] = Counter()
        corners = [] if self._ordered else spec.space.corners(spec.sampler.seed)
        points = [{name: point[name] for name in spec.space.active(point)} for point in spec.points]
        self._first: deque[Point] = deque([*points, *corners])
        self._entry, self._exhausted = "", False
        self._unseen: Iterator[Point] = iter(())

    def next(self, pending: Sequence[Assignment]) -> Choice | None:
        """What earned the next rung, else a new point, else the best of those that did not earn it."""
        started = {(work.config_key, work.rung) for work in pending}
        climbing = self._ladder.next(started)
        if climbing is None:
            opened = self._new_point(started)
            if opened is not None:
                return Choice(opened.ask.params, self._ladder.entry, opened.ask.attrs, opened)
            climbing = self._ladder.next(started, generous=True)
        if climbing is None:
            return None
        record, rung = climbing
        return Choice(record.assignment.params, rung, record.assignment.sampler_attrs)

    def again(self, work: Assignment) -> _Open | None:
        """A trial of the point in the study of its rung."""
        return self._open(work.params, work.rung) if work.rung in self._studies else None

    def finish(self, record: TrialRecord, token: _Open | None) -> None:
        """The study that proposed the point learns, when the trial is of its rung; else the one of the trial's rung."""
        rung = record.assignment.rung
        self._complete[rung] += record.state == "complete"
        if token is not None and token.ask.token is not None and token.rung == rung:
            self._studies[rung].tell(token.ask.token, record)
            return
        self.abandon(token)
        self.advise(record)

    def abandon(self, token: _Open | None) -> None:
        """The study forgets the trial."""
        if token is not None and token.ask.token is not None:
            self._studies[token.rung].tell(token.ask.token, None)

    def learn(self, record: TrialRecord) -> None:
        """As from a trial that nobody proposed."""
        self.finish(record, None)

    def advise(self, record: TrialRecord) -> None:
        """The study of the record's rung learns."""
        if record.assignment.rung in self._studies:
            self._studies[record.assignment.rung].replay(record)

    def _open(self, point: Point, rung: str) -> _Open:
        """A trial of this point; one beside the grid is unknown to the study, which learns nothing from it."""
        known = self._spec.space.contains(point)
        ask = self._studies[rung].ask(point) if known else None
        return _Open(rung, Ask(point, {}) if ask is None else ask)

    def _new_point(self, started: set[Place]) -> _Open | None:
        if self._ladder.entry != self._entry:
            self._walk_again()
        if self._exhausted:
            return None
        rung = self._adviser()
        while self._first:
            point = self._first.popleft()
            if self._is_new(point, started):
                return self._open(point, rung)
        study = self._studies[rung]
        for _ in range(self._asks()):
            ask = study.ask()
            if ask is None:
                return None
            if self._is_new(ask.params, started):
                return _Open(rung, ask)
            study.tell(ask.token, None)
        fresh = next((p for p in self._unseen if self._is_new(p, started)), None)
        self._exhausted = fresh is None
        return None if fresh is None else self._open(fresh, rung)

    def _walk_again(self) -> None:
        """At the start, and when the lowest rung is skipped from now on: its points are new to the next one."""
        self._entry, self._exhausted = self._ladder.entry, False
        self._unseen = shuffled_grid(self._spec.space, self._spec.sampler.seed)
        if self._ordered:
            self._studies[FULL] = open_study(self._spec, finished=0)

    def _adviser(self) -> str:
        """The rung whose study proposes: the highest with enough records, else the lowest."""
        names = list(self._studies)
        return next((name for name in reversed(names) if self._complete[name] >= ENOUGH), names[0])

    def _asks(self) -> int:
        name = self._spec.sampler.name
        return self._spec.space.size if self._ordered else 2 if name in SLOW else MAX_ASKS

    def _is_new(self, params: Params, started: set[Place]) -> bool:
        key = self._key_of(params)
        known = self._ladder.has(key) or any(key == other for other, _ in started)
        return not known and not self._screen(params)
