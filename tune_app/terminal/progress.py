"""Progress on standard error: what a command does, how far it is, how long it still takes.

Silent until a command line says how much it wants to see, so that the library prints nothing by itself.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from trainables.printable import printable
from tune_app.terminal.quantities import show_duration

SHOWN_AFTER_S = 1.0
"""How long work lasts before a bar appears: most commands end sooner, and a bar that flashes up tells nothing."""
REFRESH_PER_S = 4
"""How often a bar is drawn again. More often costs time of the work; less often, the spinner seems to stand still."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks at work that says nothing by itself: such a look lists files, maybe of an object store."""
LOGGERS = ("tune_app", "trainables", "cluster")
"""Packages whose log messages --verbose shows; those of libraries stay silent."""
Item = TypeVar("Item")


class Verbosity(IntEnum):
    """How much a command says beside its results."""

    QUIET = 0
    NORMAL = 1
    DETAILED = 2


_wanted = Verbosity.QUIET


def set_verbosity(wanted: Verbosity) -> None:
    """Sets what this process says from now on; with detail, our log messages appear too."""
    global _wanted
    _wanted = wanted
    if wanted is Verbosity.DETAILED:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
            logging.getLogger(name).handlers = [handler]


def verbosity() -> Verbosity:
    """Returns how much this process says beside its results."""
    return _wanted


def console(*, plain: bool = False) -> Console:
    """Returns standard error, silent in a quiet process; `plain` writes lines alone, also on a terminal."""
    return Console(stderr=True, quiet=_wanted is Verbosity.QUIET, force_terminal=False if plain else None)


def note(text: str, *, on: Console | None = None) -> None:
    """Tells people something in a line beside the results: on a given console, or unless this process is quiet."""
    (console() if on is None else on).print(printable(text), highlight=False, markup=False, soft_wrap=True)


class Pace:
    """How long some work still takes, by how fast it went so far; between two steps the time counts down."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def left(self, done: float, total: float) -> float | None:
        """Returns the seconds that are left when so much is done now; None before the first step that it saw."""
        now = self._clock()
        if self._first is None or done < self._last[1]:
            self._first = self._last = (now, done)
        elif done > self._last[1]:
            self._last = (now, done)
        (began, before), (at, reached) = self._first, self._last
        if reached <= before:
            return None
        return max(0.0, (at - began) / (reached - before) * (total - reached) - (now - at))


def track(items: Iterable[Item], what: str, *, total: int) -> Iterator[Item]:
    """Yields the items one by one, with a bar on a terminal; with detail a line for each in a log."""
    with _bar(what, total, told=False) as (bar, place):
        for number, item in enumerate(items, start=1):
            yield item
            if bar is not None:
                bar.advance(place)
            else:
                _detail(f"{what}: {number} of {total}")


def counted(items: Iterable[Item], what: str, *, total: int) -> Iterator[Item]:
    """Yields the items one by one, with a bar on a terminal; each is too small for a line of its own in a log."""
    with counting(what, total=total) as advance:
        for item in items:
            yield item
            advance(1)


@contextlib.contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar, and yields a function that is called with the number of items that were just done."""
    with _bar(what, total) as (bar, place):
        yield lambda count: None if bar is None else bar.advance(place, count)


@contextlib.contextmanager
def following(what: str, *, total: int, done: Callable[[], int]) -> Iterator[None]:
    """Shows a bar for work that says nothing by itself; `done` is asked again and again how much is done."""
    with _bar(what, total or None) as (bar, place):
        if bar is None or not total:
            yield
            return
        over = threading.Event()

        def follow() -> None:
            while not over.wait(LOOK_EVERY_S):
                with contextlib.suppress(Exception):  # what is wrong with the files, the work itself will say
                    bar.update(place, completed=done())

        looks = threading.Thread(target=follow, daemon=True)
        looks.start()
        try:
            yield
        finally:
            over.set()
            looks.join()


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Shows what goes on while it lasts, and since when; how long it still takes is not known."""
    with _bar(what, None):
        yield


class TimeLeftColumn(ProgressColumn):
    """The part of a bar that says `12 s left`; rich's own forgets steps that took longer than half a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._pace = Pace()
        self._pace.left(0, 1)  # the work starts now, though its bar may show later

    def render(self, task: Task) -> Text:
        """Returns the text of the cell, as rich asks for it at every refresh."""
        left = None if task.total is None else self._pace.left(task.completed, task.total)
        return Text("… left" if left is None else f"{show_duration(left)} left", style="progress.remaining")


def _detail(line: str) -> None:
    """Prints a line to a log for people who want detail."""
    if _wanted is Verbosity.DETAILED:
        note(line)


@contextlib.contextmanager
def _bar(what: str, total: int | None, *, told: bool = True) -> Iterator[tuple[Progress | None, TaskID]]:
    """Yields a bar that appears if the work takes long enough; None without a terminal, where a log is told once."""
    target = console()
    if target.quiet or not target.is_terminal:
        if told:
            _detail(what)
        yield None, TaskID(0)
        return
    known = [TimeElapsedColumn()] if total is None else [BarColumn(), MofNCompleteColumn(), TimeLeftColumn()]
    words = TextColumn("{task.description}", markup=False)
    bar = Progress(SpinnerColumn(), words, *known, console=target, transient=True, refresh_per_second=REFRESH_PER_S)
    place = bar.add_task(printable(what), total=total)
    later = threading.Timer(SHOWN_AFTER_S, bar.start)
    later.daemon = True
    later.start()
    try:
        yield bar, place
    finally:
        later.cancel()
        later.join()  # it may be starting the bar just now
        bar.stop()
