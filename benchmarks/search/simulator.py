"""Replays a search on a table, in simulated time, with as many workers as you like."""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.search.table import Cell, Table
from tune_app.frontier.pareto import hypervolume
from tune_app.ledger.ledger import Params


@dataclass(frozen=True)
class Job:
    """A trial that a policy wants."""

    params: Params
    rung: str
    token: Hashable = None


class Policy(Protocol):
    """A way to search."""

    def ask(self) -> Job | None:
        """What to run on a free worker, or None while there is nothing to run."""
        ...

    def tell(self, job: Job, cell: Cell) -> None:
        """A job has ended."""
        ...


@dataclass(frozen=True)
class Trace:
    """How a search went: after each trial of the full schedule, what it had cost and what it had found."""

    wall_s: np.ndarray
    training_s: np.ndarray
    volume: np.ndarray
    jobs: int

    def seconds_to(self, volume: float) -> float:
        """Training seconds until this hypervolume was reached; infinite when it never was."""
        return self._when(self.training_s, volume)

    def wall_to(self, volume: float) -> float:
        """Seconds on the clock until then; infinite likewise."""
        return self._when(self.wall_s, volume)

    def _when(self, times: np.ndarray, volume: float) -> float:
        # Volumes of bytes or operations are large numbers, and a sum in another order differs in its last digits.
        reached = np.flatnonzero(self.volume >= volume * (1 - 1e-12))
        return float(times[reached[0]]) if len(reached) else float("inf")


def simulate(
    policy: Policy, table: Table, *, workers: int, cache: bool, target: float, max_jobs: int = 100_000
) -> Trace:
    """Runs a policy until it has reached a hypervolume, or wants nothing more.

    Training seconds count work that is done, also for a stage that two workers compute because there is no cache;
    waiting for a stage that another worker makes costs wall time alone.
    """
    clock = _Clock(cache)
    running: list[tuple[float, int, Job]] = []
    started = 0
    now, best, front = 0.0, 0.0, np.empty((0, len(table.directions)))
    walls, volumes = [], []
    while best < target and started < max_jobs:
        while len(running) < workers and (job := policy.ask()) is not None:
            heapq.heappush(running, (clock.finish(table.cell(job.params, job.rung), now), started, job))
            started += 1
        if not running:
            break
        now, _, job = heapq.heappop(running)
        cell = table.cell(job.params, job.rung)
        if job.rung == "full":
            if cell.row["state"] == "complete":
                front = np.r_[front, table.costs(cell.row)[None]]
                best = hypervolume(front, table.corner)
            walls.append(now)
            volumes.append(best)
        policy.tell(job, cell)
    wall = np.array(walls)
    return Trace(wall, clock.spent_by(wall), np.array(volumes), jobs=started)


class _Clock:
    """Who computes what, and when it is there."""

    def __init__(self, cache: bool) -> None:
        self._cache = cache
        self._there: dict[Hashable, float] = {}
        self._work: list[tuple[float, float]] = []

    def finish(self, cell: Cell, now: float) -> float:
        """When a worker that starts a cell now has it."""
        for stage in cell.stages:
            if self._cache and stage.key in self._there:
                now = max(now, self._there[stage.key])
                continue
            self._work.append((now, now + stage.seconds))
            now += stage.seconds
            self._there[stage.key] = now
        return now

    def spent_by(self, times: np.ndarray) -> np.ndarray:
        """(n,) seconds of work done by each of these moments."""
        begin, end = np.array(self._work).reshape(-1, 2).T
        return np.array([np.clip(t - begin, 0, end - begin).sum() for t in times])
