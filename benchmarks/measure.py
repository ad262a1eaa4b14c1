"""Variants of one step timed side by side: every round runs each once, in an order of its own.

What else the machine does then meets all variants alike, and a ratio of two is read from the same rounds.
"""

import gc
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAX_LOAD_PER_CORE = 0.65
"""Of the load average over a minute. The measurement itself keeps one thread busy."""


class BusyMachine(Exception):
    """Other work would share the cores with the measurement."""


@dataclass(frozen=True)
class Quartiles:
    """A median and the quartiles below and above it."""

    low: float
    median: float
    high: float


def interleaved(
    steps: Mapping[str, Callable[[], object]], *, warmup: int, rounds: int, seed: int
) -> dict[str, list[float]]:
    """Milliseconds of each step by name, one per round; warm-up rounds are not among them."""
    order = random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        gc.collect()
        for name in order.sample(list(steps), len(steps)):
            started = time.perf_counter()
            steps[name]()
            if number >= warmup:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def quartiles(values: Sequence[float]) -> Quartiles:
    """Linear interpolation between the two nearest values."""
    return Quartiles(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


def ratio(times: Sequence[float], reference: Sequence[float]) -> Quartiles:
    """Of the ratios of each round, not of two medians."""
    return quartiles([time / other for time, other in zip(times, reference, strict=True)])


def load() -> float:
    """The load average over the last minute."""
    return os.getloadavg()[0]


def check_idle(*, force: bool) -> None:
    """Refuses a machine that is busy with something else.

    Raises:
        BusyMachine: the load is above the bound and `force` is off.
    """
    cores = os.cpu_count() or 1
    bound = MAX_LOAD_PER_CORE * cores
    if load() > bound and not force:
        raise BusyMachine(
            f"a measurement needs a load average of at most {bound:.2f} on {cores} cores, but it is {load():.2f}: "
            "wait, or give --force."
        )
