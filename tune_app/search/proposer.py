"""Proposer: the search without Ray. Replays the ledger, proposes, deduplicates, keeps the budget."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from search_spaces.rungs import FULL
from search_spaces.samplers import SAMPLERS
from trainables.config import repeat_seed
from trainables.errors import InfeasiblePoint
from tune_app.errors import SearchAborted
from tune_app.frontier.chance import probabilities
from tune_app.frontier.points import PointRuns, group_runs, point_of
from tune_app.ledger.ledger import Assignment, Params, Place, TrialRecord, latest
from tune_app.search.budget import Spent, is_hopeless, out_of_time, too_many_failures, why_stop
from tune_app.search.ladder import Ladder
from tune_app.search.rank_search import RankSearch
from tune_app.search.repeats import next_repeat
from tune_app.search.strategy import Bounds, KeyOf, Outlook, Setting, StepsOf, Strategy
from tune_app.spec.experiment import ExperimentSpec


class Proposer:
    """Decides what runs next. Every configuration runs once at each rung; its record answers later proposals.

    When no new trial starts, points that may be on the frontier run again in full, if the spec has `repeats`.
    These runs are no trials: they neither count against the budget, nor climb, nor teach a sampler.

    `key_of` gives the configuration key of a point, `steps_of` the stages that a trial needs, `reference` the corner
    of the hypervolume by objective. `in_flight` is what the last driver was running: those without a record go
    first, then, with `retry_failed`, a new attempt of each trial that failed. Samplers learn from `advice` too, records
    that are no results here. Points that `bounds` refuse are not proposed. With `only`, these
    points run in full, before what was cut off, and no other is proposed, whatever the budget. `began` is when the run
    did by the clock, with its data and its baseline; None: now.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        *,
        key_of: KeyOf,
        steps_of: StepsOf,
        reference: Mapping[str, float],
        records: Sequence[TrialRecord] = (),
        in_flight: Sequence[Assignment] = (),
        advice: Sequence[TrialRecord] = (),
        bounds: Bounds = lambda params: "",
        retry_failed: bool = False,
        only: Sequence[Params] = (),
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._clock, self._began = clock, clock() if began is None else began
        self._key_of = key_of
        newest = latest(records)
        failed = [r.assignment for r in newest if retry_failed and r.state == "failed"]
        self._records = {r.assignment.place: r for r in newest if not retry_failed or r.state != "failed"}
        self._running: dict[str, tuple[Assignment, Any]] = {}
        self.ladder = Ladder(spec, reference)
        """The rungs, and how the points stand at each of them."""
        self.spent = Spent(spec, reference, self._records.values())
        """The counts over all records that the budget is compared with."""
        setting = Setting(spec, self.ladder, key_of, steps_of, bounds, reference, finished=len(self._records))
        sampler = SAMPLERS[spec.sampler.name]
        self._strategy: Strategy = sampler.make(setting) if sampler.is_strategy else RankSearch(setting)
        self._race: tuple[list[PointRuns], list[float | None]] | None = None
        self._hopeless = ""
        for record in self._records.values():
            if record.assignment.repeat == 0:
                self.ladder.add(record)
                self._strategy.replay(record)
        for record in advice:
            self._strategy.advise(record)
        known = {r.assignment.trial_id for r in records}
        cut_off = [w for w in in_flight if w.place not in self._records and w.trial_id not in known]
        used = [r.assignment.number for r in records] + [w.number for w in in_flight]
        self._number = max(used, default=-1) + 1
        asked = [self._assignment(params, FULL, {}) for params in only]
        self._only = dict.fromkeys(work.place for work in asked)
        again = [w for w in failed if not only or w.place in self._only]
        retries = [w.model_copy(update={"attempt": w.attempt + 1}) for w in again]
        first = map(self._renamed, [*asked, *filter(self._is_wanted, [*cut_off, *retries])])
        self._queue: deque[Assignment] = deque(self._new(first, known))

    @property
    def records(self) -> list[TrialRecord]:
        """The newest record of every configuration and rung."""
        return list(self._records.values())

    @property
    def asked(self) -> list[TrialRecord]:
        """The records of the points that were asked for, as far as there are any."""
        return [self._records[place] for place in self._only if place in self._records]

    @property
    def running(self) -> list[Assignment]:
        """The assignments that were proposed and have no record yet."""
        return [work for work, _ in self._running.values()]

    @property
    def pending(self) -> list[Assignment]:
        """The assignments that must not be forgotten when the driver dies: running, and queued to run again."""
        return [*self.running, *self._queue]

    @property
    def outlook(self) -> Outlook | None:
        """What the next trials are expected to bring; None where the sampler does not know."""
        return self._strategy.outlook

    @property
    def done(self) -> str:
        """Why nothing new is started, in a few words; empty while the budget lasts."""
        if self._only:
            return "the points that were asked for"
        return self._hopeless or why_stop(self.spent, self._spec.budget, wall_s=self._clock() - self._began)

    def next(self) -> Assignment | None:
        """Returns what to run now, or None when the budget is spent, nothing is left, or results must come first.

        Raises:
            SearchAborted: too many trials ended badly.
        """
        if too_many_failures(self.spent, self._spec.budget):
            raise SearchAborted(
                f"{self.spent.faults} of {self.spent.finished} trials of {self._spec.name!r} ended badly, "
                f"more than budget.failed_share allows ({self._spec.budget.failed_share:g}); most often: "
                f"{Counter(r.reason for r in self.records if r.is_fault).most_common(1)[0][0]}"
            )
        if self._queue:
            work = self._queue.popleft()
            return self._start(work, self._strategy.resume(work) if work.repeat == 0 else None)
        if self._only:
            return None
        if self.done or self.spent.trials + sum(w.is_trial for w in self.running) >= self._spec.budget.trials:
            return self._repeat()
        choice = self._strategy.suggest(self.pending)
        if choice is not None and is_hopeless(self.spent, self._spec.budget, self._strategy.outlook):
            self._hopeless = f"little to expect of {self._strategy.outlook}"
            return self._repeat()
        if choice is not None:
            return self._start(self._assignment(choice.params, choice.rung, choice.attrs), choice.token)
        may_climb = any(w.rung != FULL for w in self.running)
        return None if may_climb else self._repeat()

    def tell(self, record: TrialRecord) -> None:
        """Takes the record of a trial. A second delivery of the same one changes nothing."""
        work, token = self._running.pop(record.assignment.trial_id, (None, None))
        if work is None:
            return
        self._records[work.place] = record
        self._race, self._hopeless = None, ""  # a result may give new hope
        self.spent.add(record)
        if work.repeat == 0:
            self.ladder.add(record)
            self._strategy.tell(record, token)

    def requeue(self, work: Assignment) -> None:
        """Queues a trial whose worker was lost: the same point runs again, before anything new."""
        _, token = self._running.pop(work.trial_id)
        if work.repeat == 0:
            self._strategy.forget(token)
        self._queue.append(work)

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

    def _start(self, work: Assignment, token: Any) -> Assignment:
        self._running[work.trial_id] = (work, token)
        return work

    def _repeat(self) -> Assignment | None:
        """Starts a further run of a point that may be on the frontier, when there is time for one."""
        repeats, budget = self._spec.repeats, self._spec.budget
        if repeats is None or out_of_time(self.spent, budget, wall_s=self._clock() - self._began):
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

    def _new(self, asked: Iterable[Assignment], known: Set[str]) -> Iterable[Assignment]:
        """Returns the first assignment of each place that has no record, without trials that are known."""
        found: dict[Place, Assignment] = {}
        for work in asked:
            if work.trial_id not in known and work.place not in self._records:
                found.setdefault(work.place, work)
        return found.values()

    def _renamed(self, work: Assignment) -> Assignment:
        """Names an assignment anew: a plug-in of another version than when it was begun makes another result."""
        try:
            return work.model_copy(update={"config_key": self._key_of(work.params, work.repeat)})
        except InfeasiblePoint:  # its record will say so
            return work

    def _is_wanted(self, work: Assignment) -> bool:
        if work.repeat:
            return self._spec.repeats is not None and work.repeat < self._spec.repeats.seeds
        known = work.place in self._only or self._spec.has_point(work.params)
        return known and work.rung in self._spec.rungs
