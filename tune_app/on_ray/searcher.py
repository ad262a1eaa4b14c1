"""LedgerSearch: what Ray Tune sees of a search."""

import math
from collections import Counter, defaultdict
from typing import Any

from ray.tune.search import Searcher

from trainables.errors import OutOfMemory, TrialFailure, WorkerLost
from tune_app.engine.engine import ReadySearch
from tune_app.engine.trial import Grant, ray_config, unfinished_record
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.on_ray.gpu_shares import Shares
from tune_app.on_ray.heartbeat import take_heartbeat
from tune_app.search.keys import shared_start


class LedgerSearch(Searcher):  # type: ignore[misc]
    """Asks the proposer, and reads how a trial ended from the ledger, never from Ray's row.

    A Ray trial is one assignment, or several short ones that start from the same stage, each with a record of its
    own. An error in here ends the search; it is kept in `error`, since Tune would wrap it.
    """

    def __init__(self, search: ReadySearch) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.at_once: float = math.inf
        """Ray trials that run at the same time at most; nodes that join or leave change it."""
        self.ledger = Ledger(search.folder.trials)
        self._search, self._proposer, self._lease = search, search.proposer, search.lease
        self._shares = Shares(search.spec.resources, search.proposer.records)
        # A strategy tries a point at a lower rung since the outcome decides what comes next: it must not wait.
        fidelity, sampler = search.spec.fidelity, search.spec.sampler
        self._batch = 1 if fidelity is None or sampler.is_strategy else fidelity.batch
        self._waiting: dict[str, list[Assignment]] = defaultdict(list)
        self._work: dict[str, list[Assignment]] = {}
        self._granted: dict[str, float] = {}
        self._losses: Counter[str] = Counter()
        self._out_of_memory: Counter[str] = Counter()

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Takes over from Tune, which would keep to what there was room for when the search began."""
        self.at_once = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next assignments, None to be asked again, or FINISHED."""
        finished: str = Searcher.FINISHED
        if self.error is not None:
            return finished
        if len(self._work) >= self.at_once:
            return None
        try:
            work = self._next()
            if not work:
                return None if self._work else finished
            self._lease.check()  # only now: Tune asks many times a second, and a look may be a request
        except Exception as err:
            self.error = err
            return finished
        self._work[trial_id] = work
        self._search.refresh()
        share = self._granted[trial_id] = self._shares.of(work[0].rung)
        return ray_config(work, Grant(share, self._out_of_memory[work[0].trial_id]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the proposer what the worker wrote; no record means that the worker was lost."""
        try:
            share, begun = self._granted.pop(trial_id, 0.0), True
            for work in self._work.pop(trial_id, ()):
                begun = self._settle(work, share, begun=begun) and begun
        except Exception as err:
            self.error = self.error or err

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Ignores the row: the record says it all."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: every start replays the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles its searcher into a file that nobody reads."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "LedgerSearch":
        """Returns itself: the search is one object, also where Tune copies its settings."""
        return self

    def _next(self) -> list[Assignment]:
        """Returns what one Ray trial does: something that goes alone, or the largest batch of what waits."""
        while sum(map(len, self._waiting.values())) < self._batch:
            work = self._proposer.next()
            if work is None:
                break
            if self._batch == 1 or self._losses[work.trial_id] or self._out_of_memory[work.trial_id]:
                return [work]
            start = shared_start(self._search.spec, self._search.baseline.fingerprint, work)
            if start is None:
                return [work]
            self._waiting[start].append(work)
        if not self._waiting:
            return []
        return self._waiting.pop(max(self._waiting, key=lambda start: len(self._waiting[start])))

    def _settle(self, work: Assignment, share: float, *, begun: bool) -> bool:
        """Whether the worker wrote a record; what it had not begun when it went away only starts again."""
        record = known = self.ledger.find(work.trial_id)
        if record is None:
            err = self._why_over(work, share) if begun else None
            if err is None:
                self._proposer.requeue(work)
                return False
            record = self._give_up(work, err, Grant(share, self._out_of_memory[work.trial_id]))
        self._shares.learn(record)
        self._search.tell(record)
        return known is not None

    def _give_up(self, work: Assignment, err: TrialFailure, grant: Grant) -> TrialRecord:
        """Writes a record for a worker that is gone, unless it wrote its own in the last moment."""
        self._search.folder.probe()  # raises if it is the storage that is gone
        self._lease.check()  # for who was taken over, the trial may be at work elsewhere
        record = unfinished_record(work, err, grant)
        return record if self.ledger.add(record) else self.ledger.find(work.trial_id) or record

    def _why_over(self, work: Assignment, share: float) -> TrialFailure | None:
        """Says why an assignment without a record does not start again; None: it does."""
        beat = take_heartbeat(self._search.folder, work.trial_id)
        if beat is not None and beat.out_of_memory:
            self._out_of_memory[work.trial_id] += 1
            # Another trial of the rung may have found out first.
            larger = self._shares.of(work.rung) > share or self._shares.ran_out(work.rung, share)
            too_little = f"the GPU's memory was not enough for the trial, which held {share:g} of it"
            return None if larger else OutOfMemory(too_little)
        self._losses[work.trial_id] += 1
        losses, retries = self._losses[work.trial_id], self._search.spec.worker_retries
        lost = f"the worker was lost {losses} times (killed, hung, or its node went away)"
        return None if losses <= retries else WorkerLost(lost)
