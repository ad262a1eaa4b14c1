"""Weights & Biases: a run for each trial, and one with the frontier in tables and charts (wandb is imported on use)."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.storage import redact
from tune_app.ledger.folder import PACKED
from tune_app.spec.trackers import WandbConfig
from tune_app.tracking.overview import opened, parallel_coordinates
from tune_app.tracking.protocol import Artifact, ConfusionMatrix, Epoch, Overview, RunEnd, RunInfo, unavailable
from tune_app.tracking.wandb_connection import ONLINE, Connection, answers, library

START_S, PATIENT_START_S = 5.0, 30.0
"""Seconds that a run's start may take beside a search, and afterwards."""
DATA_DIR = "WANDB_DATA_DIR"


class WandbTracker:
    """Shows an experiment as runs of one W&B project."""

    def __init__(self, config: WandbConfig, place: Path, connection: Connection, *, finish_s: float) -> None:
        """Opens a project; W&B's own files go to `place`, and a run's last data may take `finish_s` (0: for ever) to
        be sent."""
        self._config, self._connection, self._finish_s = config, connection, finish_s
        # Offline nobody looks, and W&B writes its file only every quarter of a minute and at the end.
        self.live = connection.mode == ONLINE
        entity = config.entity or os.environ.get("WANDB_ENTITY") or "default entity"
        project = f"{redact(connection.base_url)}/{entity}/{config.project}"
        self.destination = project if self.live else connection.mode
        self._place = None if os.environ.get("WANDB_DIR") else place
        self._overview: Any = None
        self._sets_data_dir = False
        if self._place is not None:
            with unavailable("W&B's files cannot be written"):
                self._place.mkdir(parents=True, exist_ok=True)
            # Tables wait there to be sent, and offline runs are then whole in one folder.
            self._sets_data_dir = DATA_DIR not in os.environ
            os.environ.setdefault(DATA_DIR, str(self._place / "wandb"))

    def open(self, info: RunInfo) -> "WandbRun":
        """Begins a run with this id, or goes on with it."""
        return WandbRun(self._init(info), self._config)

    def show(self, overview: Overview) -> None:
        """Shows tables and charts, of which W&B shows the newest, and totals as curves over the trials."""
        from plotly.graph_objects import Figure

        wandb = library()
        with answers():
            if self._overview is None:
                self._overview = self._init(overview.info)
                self._overview.define_metric("*", step_metric="trials")
            points = wandb.Table(columns=list(overview.columns), data=overview.table(overview.points))
            title = overview.titled(f"{overview.y} against {overview.x}")
            charts = {
                "frontier": wandb.Table(columns=list(overview.columns), data=overview.table(overview.frontier)),
                "points": wandb.plot.scatter(points, overview.x, overview.y, title=title),
                "parallel_coordinates": wandb.Plotly(Figure(parallel_coordinates(overview))),
            }
            if overview.confusion is not None:
                charts["confusion_matrix"] = _confusion(overview, overview.confusion)
                if overview.confusion.picture:
                    caption = overview.titled(f"{overview.confusion.label}, validation split")
                    charts["confusion_images"] = wandb.Image(opened(overview.confusion.picture), caption=caption)
            self._overview.log({**overview.totals, **charts}, step=overview.step, commit=True)

    def close(self) -> None:
        """Ends the overview's run, and W&B's own process when everything is sent."""
        with answers():
            if self._overview is not None:
                self._overview.finish()
            library().teardown()
        if self._sets_data_dir:
            os.environ.pop(DATA_DIR, None)

    def _init(self, info: RunInfo) -> Any:
        wandb = library()
        with answers():
            return wandb.init(
                id=info.run_id,
                name=info.name,
                group=info.group,
                job_type=info.kind,
                config=dict(info.config),
                tags=info.caveat.split("; ") if info.caveat else None,  # of at most 64 characters each
                project=self._config.project,
                entity=self._config.entity or None,
                mode=self._connection.mode,
                resume="allow",
                reinit="create_new",
                dir=None if self._place is None else str(self._place),
                settings=_settings(self._finish_s),
            )


class WandbRun:
    """Shows one trial as a W&B run."""

    def __init__(self, run: Any, config: WandbConfig) -> None:
        self._run, self._config = run, config
        self._stages: set[str] = set()
        # W&B's server takes no step twice; offline every run begins anew.
        self.last_step: int | None = None if run.offline else int(run.starting_step) - 1 if run.resumed else 0

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Writes each epoch at its own step; a stage's curves are drawn over the stage's epochs."""
        with answers():
            for epoch in epochs:
                for stage in {name.partition("/")[0] for name in epoch.values} - self._stages:
                    self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
                    self._stages.add(stage)
                self._run.log(dict(epoch.values), step=epoch.step, commit=True)

    def finish(self, end: RunEnd) -> None:
        """Writes what was measured into the run's summary; a trial without a result is a failed run."""
        with answers():
            self._run.summary.update({"state": end.state, **end.metrics, **end.facts})
            if end.artifact is not None:
                self._run.summary.update({"artifact": end.artifact.uri, "artifact_sha256": end.artifact.sha256})
                with contextlib.suppress(Exception):  # W&B takes no artifacts from some accounts
                    self._run.log_artifact(self._packed(end.artifact, end.metrics))
            self._run.finish(exit_code=0 if end.state == "complete" else 1)

    def leave(self) -> None:
        """Marks the run as preempted, and leaves it."""
        with answers():
            self._run.mark_preempting()
            self._run.finish(exit_code=1)

    def _packed(self, artifact: Artifact, metrics: Mapping[str, float]) -> Any:
        """Returns the packed file by its address and SHA-256; its bytes only if the spec asks for that."""
        about = {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
        found = library().Artifact(str(self._run.id), type="model", metadata={**about, **metrics})
        if self._config.upload and artifact.file is not None:
            found.add_file(str(artifact.file), name=PACKED)
        else:
            found.add_reference(artifact.uri, name=PACKED, checksum=False)
        return found


def _settings(finish_s: float) -> Any:
    """Returns settings that record nothing of this process, which is no trial: no console, system metrics, code,
    packages."""
    return library().Settings(
        silent=True,
        console="off",
        init_timeout=START_S if finish_s else PATIENT_START_S,
        finish_timeout=finish_s,
        finish_timeout_raises=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        label_disable=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _confusion(overview: Overview, matrix: ConfusionMatrix) -> Any:
    """Returns W&B's own chart, made from the counts; its function would take one row per image."""
    wandb, names = library(), ["Actual", "Predicted", "nPredictions"]
    rows = [
        [actual, predicted, count]
        for actual, counts in zip(matrix.classes, matrix.counts, strict=True)
        for predicted, count in zip(matrix.classes, counts, strict=True)
    ]
    return wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table(columns=names, data=rows),
        fields={name: name for name in names},
        string_fields={"title": overview.titled(f"{matrix.label}, validation split")},
    )
