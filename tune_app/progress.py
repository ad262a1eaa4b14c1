"""Progress on standard error: what a command does, how far it is, how long it still takes.

Silent until a command line says how much it wants to see, so that the library prints nothing by itself.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

SHOWN_AFTER_S = 1.0
"""What is over sooner shows nothing."""
LOGGERS = ("tune_app", "trainables", "cluster")
Item = TypeVar("Item")


class Verbosity(IntEnum):
    """How much a command says beside its results."""

    QUIET = 0
    NORMAL = 1
    DETAILED = 2


_wanted = Verbosity.QUIET


def set_verbosity(wanted: Verbosity) -> None:
    """Of this process from now on; with detail, our log messages appear too."""
    global _wanted
    _wanted = wanted
    if wanted is Verbosity.DETAILED:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
            logging.getLogger(name).handlers = [handler]


def verbosity() -> Verbosity:
    """What was asked for."""
    return _wanted


def console() -> Console:
    """Standard error, which says nothing when a command is to be quiet."""
    return Console(stderr=True, quiet=_wanted is Verbosity.QUIET)


def track(items: Iterable[Item], what: str, *, total: int) -> Iterator[Item]:
    """The items one by one, with a bar on a terminal; with detail a line for each in a log."""
    with _bar(what, total) as (bar, place):
        for number, item in enumerate(items, start=1):
            yield item
            if bar is not None:
                bar.advance(place)
            elif _wanted is Verbosity.DETAILED:
                console().print(f"{what}: {number} of {total}", highlight=False)


@contextlib.contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number of items that were just done."""
    with _bar(what, total) as (bar, place):
        if bar is None and _wanted is Verbosity.DETAILED:
            console().print(what, highlight=False)
        yield lambda count: None if bar is None else bar.advance(place, count)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Says what goes on while it lasts; how long is not known."""
    with _bar(what, None) as (bar, _):
        if bar is None and _wanted is Verbosity.DETAILED:
            console().print(what, highlight=False)
        yield


@contextlib.contextmanager
def _bar(what: str, total: int | None) -> Iterator[tuple[Progress | None, TaskID]]:
    """A bar that appears if the work takes long enough; none without a terminal."""
    target = console()
    if target.quiet or not target.is_terminal:
        yield None, TaskID(0)
        return
    known = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)] if total is not None else []
    bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), *known, console=target, transient=True)
    place = bar.add_task(what, total=total)
    later = threading.Timer(SHOWN_AFTER_S, bar.start)
    later.daemon = True
    later.start()
    try:
        yield bar, place
    finally:
        later.cancel()
        later.join()  # it may be starting the bar just now
        bar.stop()
