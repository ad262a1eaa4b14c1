"""Tracker: what a program that shows runs has to do for us, and what it is told."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainables.errors import TuneAppError
from trainables.storage import redact, sha256
from tune_app.frontier.points import MAIN

Value = float | int | str
Row = Mapping[str, Any]


class TrackerUnavailable(TuneAppError):
    """A tracker does not answer, or takes nothing from us."""

    exit_code = 3


@contextlib.contextmanager
def unavailable(problem: str, *, secret: str = "") -> Iterator[None]:
    """Turns whatever comes out of a tracker's library or its server into one error of ours, without secrets.

    Raises:
        TrackerUnavailable: the block raised something; a line says what.
    """
    try:
        yield
    except Exception as err:
        words = redact(" ".join(str(err).split()).replace(secret or "\0", "***")) or type(err).__name__
        raise TrackerUnavailable(f"{problem}: {words[:300]}") from err


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told of a run as it begins."""

    run_id: str
    """The id `<experiment>-<trial>`: the same when a search goes on, on whatever machine."""
    name: str
    """The name that people read, such as `p30_w4_a8`."""
    group: str
    """The name of the experiment."""
    kind: str
    """The kind of run: `trial`, `baseline` or `summary`."""
    config: Mapping[str, Value] = field(default_factory=dict)
    caveat: str = ""
    """A warning for everybody who sees the run's numbers; empty for none."""
    varied: Mapping[str, Value] = field(default_factory=dict)
    """A value of each entry of `config` that tells trials of the search apart, the searched parameters first."""
    objectives: tuple[str, ...] = ()
    """The columns that the search is judged by, the objectives first."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a trial, as a tracker shows it."""

    step: int
    """Counted from 1 over all stages of the trial, those that a cache answered included."""
    values: Mapping[str, float]
    """By `<stage>/<column>`, such as `qat/loss`; `<stage>/epoch` counts within the stage."""


@dataclass(frozen=True)
class Artifact:
    """The packed file of a trial, as a tracker names it."""

    uri: str
    sha256: str
    size_bytes: int
    file: Path | None
    """The path of the file on this machine, if it is there."""


@dataclass(frozen=True)
class RunEnd:
    """How a trial ended, as a tracker is told."""

    state: str
    metrics: Mapping[str, float]
    """What was measured, also of a trial that was refused for it."""
    facts: Mapping[str, Value]
    """Reason of a failure, seconds, stages that the cache answered, versions, host and device."""
    artifact: Artifact | None = None


@dataclass(frozen=True)
class ConfusionMatrix:
    """Images by true class (row) and predicted class (column) of one network."""

    label: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    picture: bytes = b""
    """The same with a misclassified image in each cell, as PNG; empty for none."""


@dataclass(frozen=True)
class Overview:
    """An experiment at one moment; `columns` are those of the rows, parameters first."""

    info: RunInfo
    records: int
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    x: str
    """The column along the scatter's horizontal axis."""
    y: str
    frontier: Sequence[Row]
    points: Sequence[Row]
    """Complete trials of the full schedule, those of the frontier first; at most MOST_POINTS."""
    totals: Mapping[str, float]
    knee: str
    """Trial id of the frontier's knee; empty without a frontier."""
    confusion: ConfusionMatrix | None = None

    made_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def step(self) -> int:
        """A number that rises from one overview to the next, on whatever machine; the confusion matrix may come after
        all else, and has a step of its own."""
        return self.made_ms + (self.confusion is not None)

    @property
    def content(self) -> int:
        """An even number that is another one once the overview says something else; with the confusion matrix the odd
        one after it."""
        said = (self.info, self.records, self.columns, self.x, self.y, self.totals)
        told = repr([*said, self.table(self.frontier), self.table(self.points)])
        return 2 * int(sha256(told.encode())[:12], 16) + (self.confusion is not None)

    def table(self, rows: Sequence[Row]) -> list[list[Any]]:
        """Returns the values of rows in the order of the columns."""
        return [[row[name] for name in self.columns] for row in rows]

    def titled(self, title: str) -> str:
        """Returns the title of a table or chart with what its readers must know."""
        return f"{title} ({self.info.caveat})" if self.info.caveat else title

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the parallel coordinates: parameters, then what was measured."""
        return (*self.parameters, *(name for name in self.columns if name in MAIN or name in (self.x, self.y)))


class TrackedRun(Protocol):
    """A run at a tracker, while it is being shown."""

    last_step: int | None
    """The last epoch that the tracker has; None: it cannot say."""

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Shows more epochs, whose steps rise."""

    def finish(self, end: RunEnd) -> None:
        """Shows how the trial ended, and ends the run."""

    def leave(self) -> None:
        """Leaves the run: the search stopped before the trial was done, and goes on later."""


class Tracker(Protocol):
    """A program that shows runs.

    Every call may take its time, and may raise TrackerUnavailable: it runs where no trial waits for it.
    """

    destination: str
    """The name of the place, without credentials; what was shown there before is remembered by it."""
    live: bool
    """Whether epochs are shown as they come; else a run is shown as a whole, at its end or the search's."""

    def open(self, info: RunInfo) -> TrackedRun:
        """Begins a run, or goes on with it."""

    def show(self, overview: Overview) -> None:
        """Shows the experiment as a whole, in a run of its own that is updated."""

    def close(self) -> None:
        """Sends what is left, and ends."""
