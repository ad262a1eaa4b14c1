"""Functions that several processes run at the same moment; the processes start once in a session."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")
Together = Callable[..., list[Any]]
COUNT = 3
_SPAWN = multiprocessing.get_context("spawn")
_barriers: dict[int, Any] = {}
"""In each of the processes, by the number of those that wait for one another."""


@contextmanager
def processes() -> Iterator[Together]:
    """Gives a function that calls `work(*arguments, number, barrier)` in `count` processes; they begin together."""
    barriers = {count: _SPAWN.Barrier(count) for count in range(2, COUNT + 1)}
    with _SPAWN.Pool(COUNT, _keep, (barriers,)) as pool:

        def together(work: Callable[..., Result], *arguments: object, count: int = COUNT) -> list[Result]:
            return pool.starmap(_call, [(work, arguments, number, count) for number in range(count)], chunksize=1)

        yield together


def _keep(barriers: dict[int, Any]) -> None:
    _barriers.update(barriers)


def _call(work: Callable[..., Result], arguments: tuple[Any, ...], number: int, count: int) -> Result:
    _barriers[count].wait()
    return work(*arguments, number, _barriers[count])
