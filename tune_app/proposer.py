"""Proposer: the search without Ray. Replays the ledger, proposes, deduplicates, keeps the budget."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from search_spaces.samplers import ORDERS, SLOW, shuffled_grid
from tune_app.experiment import ExperimentSpec
from tune_app.ledger import FULL, Assignment, Params, TrialRecord, latest
from tune_app.study import Ask, Point, open_study

MAX_ASKS = 30
"""Proposals in a row that may be repeats before a random new point is taken instead; a slow sampler gets two."""


class Proposer:
    """Decides which configuration runs next. Every configuration runs once; its record answers repeats.

    `key_of` gives the configuration key of a point. `in_flight` is what the last driver was running: those
    without a record go first.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        key_of: Callable[[Params], str],
        records: Sequence[TrialRecord] = (),
        in_flight: Sequence[Assignment] = (),
    ) -> None:
        self._spec = spec
        self._key_of = key_of
        self._records = {r.assignment.config_key: r for r in latest(records)}
        self._running: dict[str, tuple[Assignment, Any]] = {}
        self._study = open_study(spec, finished=len(self._records))
        for record in self._records.values():
            self._study.replay(record)
        again = [w for w in in_flight if w.config_key not in self._records and self._is_wanted(w.params)]
        self._queue: deque[Assignment] = deque(again)
        used = [r.assignment.number for r in records] + [w.number for w in in_flight]
        self._number = max(used, default=-1) + 1
        corners = [] if spec.sampler.name in ORDERS else spec.space.corners(spec.sampler.seed)
        points = [{name: point[name] for name in spec.space.active(point)} for point in spec.points]
        self._first: deque[Point] = deque([*points, *corners])
        self._unseen: Iterator[Point] = shuffled_grid(spec.space, spec.sampler.seed)

    @property
    def records(self) -> list[TrialRecord]:
        """The newest record of every configuration."""
        return list(self._records.values())

    @property
    def running(self) -> list[Assignment]:
        """What was proposed and has no record yet."""
        return [work for work, _ in self._running.values()]

    @property
    def pending(self) -> list[Assignment]:
        """What must not be forgotten when the driver dies: running, and queued to run again."""
        return [*self.running, *self._queue]

    def next(self) -> Assignment | None:
        """What to run now, or None when the budget is spent or no new point is left."""
        if self._queue:
            return self._start(self._queue.popleft())
        if len(self._records) + len(self._running) >= self._spec.budget.trials:
            return None
        ask = self._new_point()
        if ask is None:
            return None
        work = Assignment(
            number=self._number,
            config_key=self._key_of(ask.params),
            params=ask.params,
            rung=FULL,
            seed=self._spec.base.seed,
            sampler_attrs=dict(ask.attrs),
        )
        self._number += 1
        self._running[work.trial_id] = (work, ask.token)
        return work

    def tell(self, record: TrialRecord) -> None:
        """A trial has its record. A second delivery of the same one changes nothing."""
        work, token = self._running.pop(record.assignment.trial_id, (None, None))
        if work is None:
            return
        self._records[work.config_key] = record
        self._close(token, record)

    def requeue(self, work: Assignment) -> None:
        """The worker was lost: the same point runs again, before anything new."""
        _, token = self._running.pop(work.trial_id)
        self._close(token, None)
        self._queue.append(work)

    def _start(self, work: Assignment) -> Assignment:
        ask = self._ask(work.params)
        self._running[work.trial_id] = (work, None if ask is None else ask.token)
        return work

    def _ask(self, point: Point) -> Ask | None:
        """A trial of this point; one beside the grid is unknown to the study, which learns nothing from it."""
        return self._study.ask(point) if self._spec.space.contains(point) else Ask(point, {})

    def _close(self, token: Any, record: TrialRecord | None) -> None:
        if token is not None:
            self._study.tell(token, record)

    def _is_wanted(self, params: Params) -> bool:
        return params in self._spec.points or self._spec.space.contains(params)

    def _new_point(self) -> Ask | None:
        while self._first:
            point = self._first.popleft()
            if self._is_new(point):
                return self._ask(point)
        for _ in range(self._asks()):
            ask = self._study.ask()
            if ask is None or self._is_new(ask.params):
                return ask
            self._study.tell(ask.token, None)
        fresh = next((p for p in self._unseen if self._is_new(p)), None)
        return None if fresh is None else self._study.ask(fresh)

    def _asks(self) -> int:
        name = self._spec.sampler.name
        return self._spec.space.size if name in ORDERS else 2 if name in SLOW else MAX_ASKS

    def _is_new(self, params: Params) -> bool:
        key = self._key_of(params)
        return key not in self._records and all(w.config_key != key for w in self.pending)
