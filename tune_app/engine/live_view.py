"""The one live view of a search: a panel on a terminal, one line per finished trial elsewhere."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search_spaces.rungs import FULL
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.storage import read_bytes
from tune_app.frontier.objectives import judged
from tune_app.frontier.points import PointRuns, frontier, frontier_volume, group_runs
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.strategy import Outlook
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.baseline_so_far import BaselineSoFar, baseline_so_far
from tune_app.terminal.progress import Pace, Verbosity, note, verbosity
from tune_app.terminal.quantities import show_count, show_done, show_duration, show_ratio, show_share

PARTS, LEAST_BETWEEN = 10, 10
"""A log tells the frontier after every tenth of the budget, and after ten trials at least: who reads it later sees how
the search went, and lines of trials still are most of it."""
POINTS = 5
"""Points of the frontier in such a line."""
BASELINE_EVERY_S = 60
"""Seconds between two lines on a baseline in training. Fewer: short ones fill a log; more: long ones seem to hang."""


@dataclass
class Status:
    """What the live view shows of a search, which keeps it up to date."""

    spec: ExperimentSpec
    began: float = field(default_factory=time.monotonic)
    """When the run began, by the monotonic clock; `started` is when its first trial could."""
    phase: str = "starting Ray"
    making_baseline: bool = False
    records: Sequence[TrialRecord] = ()
    done: int = 0
    """Trials that count toward the budget."""
    running: int = 0
    outlook: Outlook | None = None
    reference: dict[str, float] = field(default_factory=dict)
    resumed: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def repeats(self) -> int:
        """The number of further runs of points."""
        return sum(r.assignment.repeat > 0 for r in self.records)

    @property
    def failed(self) -> int:
        """The number of trials without a usable result."""
        return sum(r.state != "complete" for r in self.records)

    def frontier(self) -> list[PointRuns]:
        """Returns the non-dominated points."""
        return frontier(group_runs(self.records, self.spec), self.spec)

    def best(self) -> dict[str, float]:
        """Returns the best value of each objective so far."""
        done = [metrics for r in self.records if (metrics := judged(r, self.spec))]
        choose = {"maximize": max, "minimize": min}
        return {m: choose[d](row[m] for row in done) for m, d in self.spec.objectives.items() if done}

    def hypervolume(self, front: list[PointRuns]) -> float:
        """Returns the share of the box from the reference point to the ideal corner, 0 to 1 as a rule."""
        return frontier_volume(front, self.spec, self.reference) if self.reference else 0.0

    def seconds_left(self) -> float | None:
        """Estimates what is left by the rate of this run, within its wall time; None before its first trial ended, and
        after the last."""
        new, now, budget = self.done - self.resumed, time.monotonic(), self.spec.budget
        if new < 1 or self.done >= budget.trials:
            return None
        left = (budget.trials - self.done) * (now - self.started) / new
        return left if budget.wall_s is None else min(left, max(0.0, self.began + budget.wall_s - now))


class LiveView:
    """A context that shows the status of a search until it ends."""

    def __init__(self, status: Status, *, console: Console | None = None) -> None:
        self.status = status
        self._console = console or Console(stderr=True)
        self._pace = Pace()
        self._live: Live | None = None
        self._told = 0

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, text: str) -> None:
        """Names what happens now."""
        self.status.phase = text
        self._pace = Pace()
        self.log(text)

    @contextlib.contextmanager
    def making_baseline(self) -> Iterator[None]:
        """Returns a context in which the baseline is made or found; it may train for hours, of which a log is told."""
        made = read_baseline(ExperimentFolder(self.status.spec.folder)) is not None
        self.phase("loading data" if made else "loading data, making the baseline")
        self.status.making_baseline = not made
        over = threading.Event()
        lines = threading.Thread(target=self._tell_epochs, args=(over,), daemon=True)
        if not made and not self._console.is_terminal:
            lines.start()
        try:
            yield
        finally:
            over.set()
            self.status.making_baseline = False

    def finished(self, record: TrialRecord) -> None:
        """Shows one more finished trial, and in a log now and then the best points so far."""
        if self._live is None:
            self._console.out(self._line(record), highlight=False)
            done, trials = self.status.done, self.status.spec.budget.trials
            if done != self._told and done % max(LEAST_BETWEEN, trials // PARTS) == 0:
                self._told = done
                self._console.out(self._so_far(), highlight=False)

    def log(self, text: str) -> None:
        """Says something that a panel has no place for."""
        if self._live is None:
            self.notice(text)

    def notice(self, text: str) -> None:
        """Says something that stays, also on a terminal."""
        note(text, on=self._console)

    def _line(self, record: TrialRecord) -> str:
        done = self.status.done
        head = f"[{done}/{max(done, self.status.spec.budget.trials)}]"
        cost = f" · {record.seconds:.1f} s{_stages(record)}" if record.state == "complete" else ""
        return f"{head} {result_line(record)}{cost}"

    def _so_far(self) -> str:
        """Returns the frontier so far, a few of its points from one end to the other."""
        front = self.status.frontier()
        shown = front[:: max(1, -(-len(front) // POINTS))]
        head = f"frontier so far: {show_count(len(front), 'point')}, hypervolume {self.status.hypervolume(front):,.4g}"
        head += "" if self.status.outlook is None else f"; expected of {self.status.outlook}"
        return "; ".join((head, *(result_line(group.first) for group in shown)))

    def _render(self) -> RenderableType:
        status, spec = self.status, self.status.spec
        grid = Table.grid(padding=(0, 2))
        grid.add_row(f"[bold]{spec.name}[/bold]", Text(status.phase))
        if not status.reference:
            if not self._add_images(grid):
                self._add_epochs(grid)
            return grid
        done, trials = status.done, show_done(status.done, spec.budget.trials)
        grid.add_row("trials", f"{trials}, {status.running} running, {status.failed} failed")
        below = Counter(r.assignment.rung for r in status.records if r.assignment.rung != FULL)
        if below:
            grid.add_row("rungs", ", ".join(f"{n} {rung}" for rung, n in below.items()))
        if status.repeats:
            grid.add_row("repeats", f"{status.repeats} further runs done")
        grid.add_row("", ProgressBar(total=spec.budget.trials, completed=done, width=40))
        for name, value in status.best().items():
            grid.add_row(f"best {name}", f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")
        front = status.frontier()
        grid.add_row("frontier", f"{len(front)} points, hypervolume {status.hypervolume(front):,.4g}")
        if status.outlook is not None:
            grid.add_row("expected", f"of {status.outlook}")
        grid.add_row("time left", _about(status.seconds_left()))
        return grid

    def _add_images(self, grid: Table) -> bool:
        """Adds how many images are decoded while a worker decodes them, and says whether one does."""
        try:
            found = json.loads(read_bytes(ExperimentFolder(self.status.spec.folder).decoding_file))
        except (OSError, ValueError, StorageUnavailable):
            return False
        done, total = int(found["done"]), int(found["total"])
        grid.add_row("images", f"{done:,} decoded of {total:,}")
        grid.add_row("", ProgressBar(total=total, completed=done, width=40))
        grid.add_row("time left", _about(self._pace.left(done, total)))
        return True

    def _add_epochs(self, grid: Table) -> None:
        """Adds how far the baseline is."""
        found = self._baseline() if self.status.making_baseline else None
        if found is None:
            return
        total = found.planned_epochs
        grid.add_row("epochs", f"{found.epochs} done of {total}")
        grid.add_row("", ProgressBar(total=total, completed=found.epochs, width=40))
        if found.accuracy is not None:
            grid.add_row("accuracy", show_share(found.accuracy))
        grid.add_row("computes with", found.threads_text())
        grid.add_row("time left", _about(self._pace.left(found.epochs, total)))

    def _baseline(self) -> BaselineSoFar | None:
        """Returns how far the baseline is, as far as that can be read: what is wrong with a file, the work will say."""
        with contextlib.suppress(StorageUnavailable, CorruptFile):
            return baseline_so_far(ExperimentFolder(self.status.spec.folder), self.status.spec)
        return None

    def _tell_epochs(self, over: threading.Event) -> None:
        """Tells a log how far the baseline is, until it is over."""
        told, hint = 0, self.status.spec.resources.baseline_cpu is None
        while not over.wait(BASELINE_EVERY_S):
            found = self._baseline()
            left = None if found is None else self._pace.left(found.epochs, found.planned_epochs)
            if found is not None and found.epochs > told:
                time_left = "" if left is None else f", {_about(left)} left"
                self.notice(f"baseline: {found.text()}{time_left}{found.hint() if hint else ''}")
                told, hint = found.epochs, False


def result_line(record: TrialRecord) -> str:
    """Returns what a trial came to: `p30_w4_a8 accuracy 97.77 % · 59,888 bytes · 10.3x`, or why it came to nothing."""
    label = record.assignment.label
    if record.state != "complete":
        return f"{label} {record.state}: {record.reason}"
    m = record.metrics()
    size = f"{m['size_bytes']:,.0f} bytes · {show_ratio(m['compression_ratio'])}"
    return f"{label} accuracy {show_share(m['accuracy'])} · {size}"


def _stages(record: TrialRecord) -> str:
    """Returns what each stage of a trial took, when detail is wanted."""
    if verbosity() is not Verbosity.DETAILED:
        return ""
    parts = (f"{s.kind} {'cached' if s.cached else f'{s.seconds:.1f} s'}" for s in record.result.stages)
    return f" ({', '.join(parts)})"


def _about(seconds: float | None) -> str:
    return "…" if seconds is None else f"about {show_duration(seconds)}"
