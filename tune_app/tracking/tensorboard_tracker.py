"""TensorBoard: event files, a folder for each trial (tensorboardX is imported on use)."""

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.results import METRICS
from tune_app.frontier.points import MAIN
from tune_app.tracking.overview import opened
from tune_app.tracking.protocol import Epoch, Overview, RunEnd, RunInfo, Value, unavailable

_writes = functools.partial(unavailable, "TensorBoard's files cannot be written")


class TensorBoardTracker:
    """Shows an experiment as event files below one folder."""

    live = True

    def __init__(self, place: Path) -> None:
        self._place = place.resolve()
        self.destination = str(self._place)
        self._overview: _EventFile | None = None

    def open(self, info: RunInfo) -> "TensorBoardRun":
        """Opens another file in the run's folder: TensorBoard reads all of them."""
        with _writes():
            return TensorBoardRun(_EventFile(self._place / info.run_id), info)

    def show(self, overview: Overview) -> None:
        """Shows totals over the records, and tables as text."""
        from tensorboardX.summary import image, scalar, text

        with _writes():
            file = self._overview = self._overview or _EventFile(self._place / overview.info.run_id)
            for name, value in overview.totals.items():
                file.add(scalar(name, value), overview.records)
            said = f"**{overview.info.caveat}**\n\n" if overview.info.caveat else ""
            file.add(text("frontier", said + _table(overview.columns, overview.table(overview.frontier))))
            if overview.confusion is not None:
                matrix = overview.confusion
                rows = [[name, *counts] for name, counts in zip(matrix.classes, matrix.counts, strict=True)]
                table = said + _table(["true", *matrix.classes], rows)
                file.add(text(f"confusion matrix of {matrix.label}", table))
                if matrix.picture:
                    pixels = np.asarray(opened(matrix.picture).convert("RGB"))
                    file.add(image("confusion_images", pixels, dataformats="HWC"), overview.records)
            file.flush()

    def close(self) -> None:
        """Closes the file of the overview."""
        with _writes():
            if self._overview is not None:
                self._overview.close()


class TensorBoardRun:
    """Shows one trial as event files in a folder of its own."""

    last_step: int | None = None

    def __init__(self, file: "_EventFile", info: RunInfo) -> None:
        self._file, self._info = file, info

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Writes one scalar per column and epoch."""
        from tensorboardX.summary import scalar

        with _writes():
            for epoch in epochs:
                for name, value in epoch.values.items():
                    self._file.add(scalar(name, value), epoch.step)
            self._file.flush()

    def finish(self, end: RunEnd) -> None:
        """Writes what varies and the state as hyperparameters, which TensorBoard draws as parallel coordinates.

        Its table has the columns of the first run that it finds: each run names all of them, the searched parameters
        and the objectives first. The whole configuration is a text beside it.
        """
        from tensorboardX.summary import hparams, scalar, text

        info = self._info
        caveat: dict[str, Value] = {"caveat": info.caveat} if info.caveat else {}
        ended: dict[str, Value] = {"state": end.state, **caveat}
        measured = (name for name in METRICS if name in end.metrics)
        columns = dict.fromkeys([*info.objectives, *MAIN, *measured], 0.0)
        about: dict[str, Value] = {**caveat, "state": end.state, **end.facts}
        if end.artifact is not None:
            about |= {"artifact": end.artifact.uri, "sha256": end.artifact.sha256}
        own = {name: info.config[name] for name in info.varied if name in info.config}
        with _writes():
            table, _, _ = hparams({**info.varied, **ended}, columns)
            _, started, done = hparams({**own, **ended}, columns)
            for summary in (table, started, done):
                self._file.add(summary)
            self._file.add(text("configuration", _table(["name", "value"], list(info.config.items()))))
            for name, value in end.metrics.items():
                self._file.add(scalar(name, value))
            self._file.add(text("trial", _table(["name", "value"], list(about.items()))))
            self._file.close()

    def leave(self) -> None:
        """Closes the file; the next one goes on."""
        with _writes():
            self._file.close()


class _EventFile:
    """One more event file in a folder. It is written by who calls: what fails in a thread of the library, nobody hears
    of."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second: two of one run that begin in the same one would be the same file.
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.time_ns()}")
        self.flush, self.close = self._events.flush, self._events.close

    def add(self, summary: Any, step: int = 0) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), summary=summary, step=step))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns rows as a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
