"""TensorBoard: event files, a folder for each trial (tensorboardX is imported on use)."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.results import METRICS
from tune_app.frontier.points import MAIN
from tune_app.tracking.overview import opened
from tune_app.tracking.protocol import Epoch, Overview, RunEnd, RunInfo, Value


class TensorBoardTracker:
    """Shows an experiment as event files below one folder."""

    live = True

    def __init__(self, place: Path) -> None:
        self._place = place
        self.destination = str(place.resolve())
        self._overview: Any = None

    def open(self, info: RunInfo) -> "TensorBoardRun":
        """Opens another file in the run's folder: TensorBoard reads all of them."""
        return TensorBoardRun(_writer(self._place / info.run_id), info)

    def show(self, overview: Overview) -> None:
        """Shows totals over the records, and tables as text."""
        if self._overview is None:
            self._overview = _writer(self._place / overview.info.run_id)
        for name, value in overview.totals.items():
            self._overview.add_scalar(name, value, overview.records)
        said = f"**{overview.info.caveat}**\n\n" if overview.info.caveat else ""
        self._overview.add_text("frontier", said + _table(overview.columns, overview.table(overview.frontier)))
        if overview.confusion is not None:
            matrix = overview.confusion
            rows = [[name, *counts] for name, counts in zip(matrix.classes, matrix.counts, strict=True)]
            table = said + _table(["true", *matrix.classes], rows)
            self._overview.add_text(f"confusion matrix of {matrix.label}", table)
            if matrix.picture:
                pixels = np.asarray(opened(matrix.picture).convert("RGB"))
                self._overview.add_image("confusion_images", pixels, overview.records, dataformats="HWC")
        self._overview.flush()

    def close(self) -> None:
        """Closes the file of the overview."""
        if self._overview is not None:
            self._overview.close()


class TensorBoardRun:
    """Shows one trial as event files in a folder of its own."""

    last_step: int | None = None

    def __init__(self, writer: Any, info: RunInfo) -> None:
        self._writer, self._info = writer, info

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Writes one scalar per column and epoch."""
        for epoch in epochs:
            for name, value in epoch.values.items():
                self._writer.add_scalar(name, value, epoch.step)
        self._writer.flush()

    def finish(self, end: RunEnd) -> None:
        """Writes what varies and the state as hyperparameters, which TensorBoard draws as parallel coordinates.

        Its table has the columns of the first run that it finds: each run names all of them, the searched parameters
        and the objectives first. The whole configuration is a text beside it.
        """
        from tensorboardX.summary import hparams

        info = self._info
        caveat: dict[str, Value] = {"caveat": info.caveat} if info.caveat else {}
        ended: dict[str, Value] = {"state": end.state, **caveat}
        measured = (name for name in METRICS if name in end.metrics)
        columns = dict.fromkeys([*info.objectives, *MAIN, *measured], 0.0)
        table, _, _ = hparams({**info.varied, **ended}, columns)
        own = {name: info.config[name] for name in info.varied if name in info.config}
        _, started, done = hparams({**own, **ended}, columns)
        for summary in (table, started, done):
            self._writer.file_writer.add_summary(summary)
        self._writer.add_text("configuration", _table(["name", "value"], list(info.config.items())))
        for name, value in end.metrics.items():
            self._writer.add_scalar(name, value, 0)
        about: dict[str, Value] = {**caveat, "state": end.state, **end.facts}
        if end.artifact is not None:
            about |= {"artifact": end.artifact.uri, "sha256": end.artifact.sha256}
        self._writer.add_text("trial", _table(["name", "value"], list(about.items())))
        self._writer.close()

    def leave(self) -> None:
        """Closes the file; the next one goes on."""
        self._writer.close()


def _writer(folder: Path) -> Any:
    from tensorboardX import SummaryWriter

    # Files are named by the second: two of one run that begin in the same one would be the same file.
    return SummaryWriter(logdir=str(folder), filename_suffix=f".{os.getpid()}.{time.time_ns()}")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns rows as a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
