"""RankSearch: new points from a sampler; they climb by their rank on the ladder."""

import dataclasses
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from search_spaces.rungs import FULL
from search_spaces.samplers import SAMPLERS, shuffled_grid
from tune_app.ledger.ledger import Assignment, Params, Place, TrialRecord
from tune_app.search.strategy import Choice, Setting, Strategy
from tune_app.search.study import open_study

ENOUGH = 8
"""Complete records of a rung from which a sampler proposes; with fewer it learns from the rung below.

As many as a sampler's random start (`n_startup_trials` in search_spaces/samplers.py): fewer teach it nothing.
"""


class RankSearch(Strategy):
    """The strategy of Optuna's samplers and of walks. Each rung has a study of its own: values of different rungs
    never meet in one. The token of a trial is the choice of the study that waits for it.
    """

    def __init__(self, setting: Setting) -> None:
        spec = self._spec = setting.spec
        self._ladder, self._key_of, self._bounds = setting.ladder, setting.key_of, setting.bounds
        self._sampler = SAMPLERS[spec.sampler.name]
        walks = self._sampler.walks
        taught = [FULL] if walks else list(spec.rungs)
        self._studies = {rung: open_study(spec, rung, seed=setting.seed) for rung in taught}
        self._complete: Counter[str] = Counter()
        self._first = deque([*setting.first_points(), *([] if walks else spec.space.corners(spec.sampler.seed))])
        self._entry, self._exhausted = "", False
        self._unseen: Iterator[Params] = iter(())

    def suggest(self, pending: Sequence[Assignment]) -> Choice | None:
        """Returns what earned the next rung, else a new point, else the best of those that did not earn it."""
        started = {work.place for work in pending}
        climbing = self._ladder.next(started)
        if climbing is None:
            opened = self._new_point(started)
            if opened is not None:
                return dataclasses.replace(opened, rung=self._ladder.entry, token=opened)
            climbing = self._ladder.next(started, generous=True)
        if climbing is None:
            return None
        record, rung = climbing
        return Choice(record.assignment.params, rung, record.assignment.sampler_attrs)

    def resume(self, work: Assignment) -> Choice | None:
        """Opens a trial of the point in the study of its rung."""
        return self._open(work.params, work.rung) if work.rung in self._studies else None

    def tell(self, record: TrialRecord, token: Choice | None) -> None:
        """The study that proposed the point learns, when the trial is of its rung; else the one of the trial's rung."""
        rung = record.assignment.rung
        self._complete[rung] += record.state == "complete"
        if token is not None and token.token is not None and token.rung == rung:
            self._studies[rung].tell(token.token, record)
            return
        self.forget(token)
        self.advise(record)

    def forget(self, token: Choice | None) -> None:
        """Closes the trial in its study, which learns nothing from it."""
        if token is not None and token.token is not None:
            self._studies[token.rung].tell(token.token, None)

    def replay(self, record: TrialRecord) -> None:
        """Learns as from a trial that nobody proposed."""
        self.tell(record, None)

    def advise(self, record: TrialRecord) -> None:
        """Lets the study of the record's rung learn."""
        if record.assignment.rung in self._studies:
            self._studies[record.assignment.rung].replay(record)

    def _open(self, point: Params, rung: str) -> Choice:
        """Opens a trial of this point; one beside the grid is unknown to the study, which learns nothing from it."""
        known = self._spec.space.contains(point)
        return (self._studies[rung].ask(point) if known else None) or Choice(point, rung)

    def _new_point(self, started: set[Place]) -> Choice | None:
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
        for _ in range(self._spec.space.size if self._sampler.walks else self._sampler.asks):
            found = study.ask()
            if found is None or self._is_new(found.params, started):
                return found
            study.tell(found.token, None)
        fresh = next((p for p in self._unseen if self._is_new(p, started)), None)
        self._exhausted = fresh is None
        return None if fresh is None else self._open(fresh, rung)

    def _walk_again(self) -> None:
        """Starts over at the start, and when the lowest rung is skipped: its points are new to the next one."""
        self._entry, self._exhausted = self._ladder.entry, False
        self._unseen = shuffled_grid.make(self._spec.space, self._spec.sampler.seed)
        if self._sampler.walks:
            self._studies[FULL] = open_study(self._spec, FULL, seed=0)

    def _adviser(self) -> str:
        """Returns the rung whose study proposes: the highest with enough records, else the lowest."""
        names = list(self._studies)
        return next((name for name in reversed(names) if self._complete[name] >= ENOUGH), names[0])

    def _is_new(self, params: Params, started: set[Place]) -> bool:
        key = self._key_of(params)
        known = self._ladder.has(key) or any(key == other for other, _ in started)
        return not known and not self._bounds(params)
