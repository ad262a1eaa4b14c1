"""Proposer: the search without Ray. Replays the ledger, proposes, deduplicates, keeps the budget."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from search_spaces.rungs import FULL
from search_spaces.samplers import ORDERS, SLOW, shuffled_grid
from trainables.config import repeat_seed
from tune_app.errors import SearchAborted
from tune_app.experiment import ExperimentSpec
from tune_app.ladder import Ladder, Place
from tune_app.ledger import Assignment, Params, TrialRecord, latest
from tune_app.repeats import Group, group_runs, next_repeat, point_of, probabilities
from tune_app.stopping import Progress, out_of_time, too_many_failures, why_stop
from tune_app.study import Ask, Point, open_study

MAX_ASKS = 30
"""Proposals in a row that may be repeats before a random new point is taken instead; a slow sampler gets two."""


ENOUGH = 8
"""Complete records of a rung from which a sampler proposes; with fewer it learns from the rung below."""


class KeyOf(Protocol):
    """Gives the configuration key of a run of a point; repeat 0 is its first run."""

    def __call__(self, params: Params, repeat: int = 0, /) -> str:
        """The key."""
        ...


class Proposer:
    """Decides what runs next. Every configuration runs once at each rung; its record answers later proposals.

    When no new trial starts, points that may be on the frontier run again in full, if the spec has `repeats`.
    These runs are no trials: they neither count against the budget, nor climb, nor teach a sampler.

    `key_of` gives the configuration key of a point, `reference` the corner of the hypervolume by objective.
    `in_flight` is what the last driver was running: those without a record go first. Samplers learn from `advice`
    too, records that are no results here.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        key_of: KeyOf,
        reference: Mapping[str, float],
        records: Sequence[TrialRecord] = (),
        in_flight: Sequence[Assignment] = (),
        advice: Sequence[TrialRecord] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._clock, self._began = clock, clock()
        self._key_of = key_of
        self._records = {_place(r.assignment): r for r in latest(records)}
        self._running: dict[str, tuple[Assignment, _Open | None]] = {}
        self._ladder = Ladder(spec, reference)
        self._studies = {rung: open_study(spec, finished=len(self._records)) for rung in self._taught()}
        self._progress = Progress(spec, reference, self._records.values())
        self._race: tuple[list[Group], list[float | None]] | None = None
        for record in self._records.values():
            self._learn(record)
        for record in advice:
            self._teach(record)
        again = [w for w in in_flight if _place(w) not in self._records and self._is_wanted(w)]
        self._queue: deque[Assignment] = deque(again)
        used = [r.assignment.number for r in records] + [w.number for w in in_flight]
        self._number = max(used, default=-1) + 1
        corners = [] if spec.sampler.name in ORDERS else spec.space.corners(spec.sampler.seed)
        points = [{name: point[name] for name in spec.space.active(point)} for point in spec.points]
        self._first: deque[Point] = deque([*points, *corners])
        self._entry, self._exhausted = "", False
        self._unseen: Iterator[Point] = iter(())

    @property
    def records(self) -> list[TrialRecord]:
        """The newest record of every configuration and rung."""
        return list(self._records.values())

    @property
    def running(self) -> list[Assignment]:
        """What was proposed and has no record yet."""
        return [work for work, _ in self._running.values()]

    @property
    def pending(self) -> list[Assignment]:
        """What must not be forgotten when the driver dies: running, and queued to run again."""
        return [*self.running, *self._queue]

    @property
    def done(self) -> str:
        """Why nothing new is started, in a few words; empty while the budget lasts."""
        return why_stop(self._progress, self._spec.budget, wall_s=self._clock() - self._began)

    @property
    def progress(self) -> Progress:
        """What the budget is compared with."""
        return self._progress

    @property
    def ladder(self) -> Ladder:
        """How the rungs stand."""
        return self._ladder

    def next(self) -> Assignment | None:
        """What to run now, or None when the budget is spent, nothing is left, or results must come first.

        Raises:
            SearchAborted: too many trials ended without a result.
        """
        if too_many_failures(self._progress, self._spec.budget):
            raise SearchAborted(
                f"{self._progress.failed} of {self._progress.finished} trials of {self._spec.name!r} have no result, "
                f"more than budget.failed_share allows ({self._spec.budget.failed_share:g}); most often: "
                f"{_most_often(self._records.values())}"
            )
        if self._queue:
            work = self._queue.popleft()
            return self._start(work, self._reopen(work))
        if self.done or self._progress.trials + sum(w.is_trial for w in self.running) >= self._spec.budget.trials:
            return self._repeat()
        started = {_place(work) for work in self.pending}
        climbing = self._ladder.next(started)
        if climbing is not None:
            return self._climb(*climbing)
        opened = self._new_point()
        if opened is not None:
            return self._start(self._assignment(opened.ask.params, self._ladder.entry, opened.ask.attrs), opened)
        climbing = self._ladder.next(started, generous=True)
        if climbing is not None:
            return self._climb(*climbing)
        may_climb = any(w.rung != FULL for w in self.running)
        return None if may_climb else self._repeat()

    def tell(self, record: TrialRecord) -> None:
        """A trial has its record. A second delivery of the same one changes nothing."""
        work, opened = self._running.pop(record.assignment.trial_id, (None, None))
        if work is None:
            return
        self._records[_place(work)] = record
        self._race = None
        self._progress.add(record)
        if work.repeat == 0:
            self._ladder.add(record)
        if opened is not None and opened.ask.token is not None and opened.rung == work.rung:
            self._studies[opened.rung].tell(opened.ask.token, record)
            return
        self._close(opened)
        self._teach(record)

    def requeue(self, work: Assignment) -> None:
        """The worker was lost: the same point runs again, before anything new."""
        _, opened = self._running.pop(work.trial_id)
        self._close(opened)
        self._queue.append(work)

    def _taught(self) -> list[str]:
        """The rungs with a study of their own: values of different rungs never meet in one."""
        return [FULL] if self._spec.sampler.name in ORDERS else list(self._spec.rungs)

    def _assignment(self, params: Params, rung: str, attrs: Mapping[str, Any], *, repeat: int = 0) -> Assignment:
        work = Assignment(
            number=self._number,
            config_key=self._key_of(params, repeat),
            params=params,
            rung=rung,
            repeat=repeat,
            seed=repeat_seed(self._spec.base.seed, repeat),
            sampler_attrs=dict(attrs),
        )
        self._number += 1
        return work

    def _start(self, work: Assignment, opened: "_Open | None") -> Assignment:
        self._running[work.trial_id] = (work, opened)
        return work

    def _climb(self, record: TrialRecord, rung: str) -> Assignment:
        below = record.assignment
        return self._start(self._assignment(below.params, rung, below.sampler_attrs), None)

    def _repeat(self) -> Assignment | None:
        """A further run of a point that may be on the frontier, when there is time for one."""
        repeats, budget = self._spec.repeats, self._spec.budget
        if repeats is None or out_of_time(self._progress, budget, wall_s=self._clock() - self._began):
            return None
        if self._race is None:
            found = group_runs(self._records.values(), self._spec)
            self._race = found, probabilities(found, self._spec)
        started = {(point_of(w.params), w.repeat) for w in self.pending if w.rung == FULL}
        chosen = next_repeat(*self._race, repeats, started=started)
        if chosen is None:
            return None
        group, repeat = chosen
        return self._start(self._assignment(group.first.assignment.params, FULL, {}, repeat=repeat), None)

    def _reopen(self, work: Assignment) -> "_Open | None":
        taught = work.repeat == 0 and work.rung in self._studies
        return self._open(work.params, work.rung) if taught else None

    def _open(self, point: Point, rung: str) -> "_Open":
        """A trial of this point; one beside the grid is unknown to the study, which learns nothing from it."""
        known = self._spec.space.contains(point)
        ask = self._studies[rung].ask(point) if known else None
        return _Open(rung, Ask(point, {}) if ask is None else ask)

    def _close(self, opened: "_Open | None") -> None:
        if opened is not None and opened.ask.token is not None:
            self._studies[opened.rung].tell(opened.ask.token, None)

    def _learn(self, record: TrialRecord) -> None:
        """From a record of an earlier run."""
        if record.assignment.repeat == 0:
            self._ladder.add(record)
            self._teach(record)

    def _teach(self, record: TrialRecord) -> None:
        if record.assignment.rung in self._studies and record.assignment.repeat == 0:
            self._studies[record.assignment.rung].replay(record)

    def _is_wanted(self, work: Assignment) -> bool:
        if work.repeat:
            return self._spec.repeats is not None and work.repeat < self._spec.repeats.seeds
        in_space = work.params in self._spec.points or self._spec.space.contains(work.params)
        return in_space and work.rung in self._spec.rungs

    def _new_point(self) -> "_Open | None":
        if self._ladder.entry != self._entry:
            self._walk_again()
        if self._exhausted:
            return None
        rung = self._adviser()
        while self._first:
            point = self._first.popleft()
            if self._is_new(point):
                return self._open(point, rung)
        study = self._studies[rung]
        for _ in range(self._asks()):
            ask = study.ask()
            if ask is None:
                return None
            if self._is_new(ask.params):
                return _Open(rung, ask)
            study.tell(ask.token, None)
        fresh = next((p for p in self._unseen if self._is_new(p)), None)
        self._exhausted = fresh is None
        return None if fresh is None else self._open(fresh, rung)

    def _walk_again(self) -> None:
        """At the start, and when the lowest rung is skipped from now on: its points are new to the next one."""
        self._entry, self._exhausted = self._ladder.entry, False
        self._unseen = shuffled_grid(self._spec.space, self._spec.sampler.seed)
        if self._spec.sampler.name in ORDERS:
            self._studies[FULL] = open_study(self._spec, finished=0)

    def _adviser(self) -> str:
        """The rung whose study proposes: the highest with enough records, else the lowest."""
        names = list(self._studies)
        taught = (r for r in self._records.values() if r.state == "complete" and r.assignment.repeat == 0)
        complete = Counter(r.assignment.rung for r in taught)
        return next((name for name in reversed(names) if complete[name] >= ENOUGH), names[0])

    def _asks(self) -> int:
        name = self._spec.sampler.name
        return self._spec.space.size if name in ORDERS else 2 if name in SLOW else MAX_ASKS

    def _is_new(self, params: Params) -> bool:
        key = self._key_of(params)
        return all((key, rung) not in self._records for rung in self._ladder.rungs) and all(
            w.config_key != key for w in self.pending
        )


@dataclass(frozen=True)
class _Open:
    """A trial that a study waits for."""

    rung: str
    ask: Ask


def _most_often(records: Iterable[TrialRecord]) -> str:
    reasons = Counter(r.reason for r in records if r.reason)
    return reasons.most_common(1)[0][0]


def _place(work: Assignment) -> Place:
    return work.config_key, work.rung
