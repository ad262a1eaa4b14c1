"""MLflow: an experiment of the same name, one run per trial (mlflow is imported on use)."""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tune_app.spec.trackers import SQLITE, store_at_root
from tune_app.tracking.overview import opened, parallel_coordinates
from tune_app.tracking.protocol import Epoch, Overview, RunEnd, RunInfo, Value, unavailable

RUN = "tune_app.run"
"""The tag that names a run: MLflow chooses ids itself."""
DESCRIPTION = "mlflow.note.content"
"""MLflow's own tag for what its pages show as the description of a run."""
STEP = "epoch"
"""The metric that counts epochs over all stages; it says where a run goes on."""
LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
BATCH = 1000
"""Metrics that a server takes at once, by MLflow's own limit."""
PARAMS = 100
"""Parameters that a server takes at once, by MLflow's own limit."""
NAME_CHARS = 250
"""Characters of a run's name that the table of a database server takes."""
PARAM_CHARS = 500
"""Characters of a parameter's value that every server takes."""
Answers = Callable[[], AbstractContextManager[None]]
"""Makes contexts in which an error of MLflow's becomes one of ours, without what its address hides."""


class MlflowTracker:
    """Shows an experiment as an MLflow experiment in one store."""

    live = True

    def __init__(self, uri: str, experiment: str, place: Path) -> None:
        """Opens the store; without a `uri` that of the environment, else an SQLite file in `place`.

        Raises:
            TrackerUnavailable: the store cannot be opened.
        """
        chosen = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        address = store_at_root(chosen or f"{SQLITE}{place / 'mlflow.db'}")
        self.destination = _without_login(address)
        secret = address if "***" in self.destination else ""
        self._answers = functools.partial(unavailable, "MLflow does not take the run", secret=secret)
        with self._answers():
            self._client = _client(address, None if chosen else place)
            found = self._client.get_experiment_by_name(experiment)
            # Beside the file: MLflow would put them into the working directory.
            file = address.partition(SQLITE)[2]
            files = (Path(file).parent / "mlflow_artifacts").as_uri() if file.startswith("/") else None
            made = None if found else self._client.create_experiment(experiment, artifact_location=files)
            self._experiment = made or found.experiment_id
        self._overview = ""

    def open(self, info: RunInfo) -> "MlflowRun":
        """Returns the run with this name, or a new one."""
        with self._answers():
            return MlflowRun(self._client, self._run_of(info), self._answers)

    def show(self, overview: Overview) -> None:
        """Shows totals over the records, tables as JSON, and the parallel coordinates as a page."""
        from plotly.graph_objects import Figure

        with self._answers():
            run = self._overview = self._overview or self._run_of(overview.info)
            _log(self._client, run, {overview.records: overview.totals})
            rows = overview.frontier
            frontier = {name: [row[name] for row in rows] for name in overview.columns} if rows else {}
            self._client.log_dict(run, frontier, "frontier.json")
            self._client.log_figure(run, Figure(parallel_coordinates(overview)), "parallel_coordinates.html")
            if overview.confusion is not None:
                matrix = overview.confusion
                numbers = {"label": matrix.label, "classes": matrix.classes, "counts": matrix.counts}
                self._client.log_dict(run, numbers, "confusion_matrix.json")
                if matrix.picture:
                    self._client.log_image(run, opened(matrix.picture), "confusion_images.png")

    def close(self) -> None:
        """Ends the run of the overview."""
        if self._overview:
            with self._answers():
                self._client.set_terminated(self._overview, status="FINISHED")

    def _run_of(self, info: RunInfo) -> str:
        """Returns the id of a run; one that goes on is marked as running again.

        MLflow takes no parameter twice: a value that is not what it was, as of a budget, is a tag of the same name.
        """
        known = self._client.search_runs([self._experiment], f"tags.`{RUN}` = '{info.run_id}'", max_results=1)
        tags, name = {RUN: info.run_id, "kind": info.kind}, info.name[:NAME_CHARS]
        run = known[0] if known else self._client.create_run(self._experiment, run_name=name, tags=tags)
        self._client.update_run(run.info.run_id, status="RUNNING")
        had, config = run.data.params, {name: str(value)[:PARAM_CHARS] for name, value in info.config.items()}
        shown = {**had, **{name: value for name, value in run.data.tags.items() if name in had}}
        changed = {name: value for name, value in config.items() if value != shown.get(name, value)}
        new = {name: value for name, value in config.items() if name not in had}
        said = {DESCRIPTION: info.caveat} if info.caveat else {}
        _log(self._client, run.info.run_id, {}, params=new, tags={**said, **changed})
        return str(run.info.run_id)


class MlflowRun:
    """Shows one trial as an MLflow run."""

    def __init__(self, client: Any, run_id: str, answers: Answers) -> None:
        self._client, self._id, self._answers = client, run_id, answers
        self.last_step: int | None = max((point.step for point in client.get_metric_history(run_id, STEP)), default=0)

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Writes one metric per column and epoch."""
        with self._answers():
            rows = {epoch.step: {**epoch.values, STEP: float(epoch.step)} for epoch in epochs}
            _log(self._client, self._id, rows)

    def finish(self, end: RunEnd) -> None:
        """Writes measurements as metrics and facts as tags."""
        tags: dict[str, Value] = {"state": end.state, **end.facts}
        if end.artifact is not None:
            tags |= {"artifact": end.artifact.uri, "artifact_sha256": end.artifact.sha256}
        with self._answers():
            _log(self._client, self._id, {0: end.metrics}, tags=tags)
            self._client.set_terminated(self._id, status="FINISHED" if end.state == "complete" else "FAILED")

    def leave(self) -> None:
        """Marks the run as killed until it goes on."""
        with self._answers():
            self._client.set_terminated(self._id, status="KILLED")


def _without_login(address: str) -> str:
    """Returns an address without what logs in there, which may stand before the last @ or behind a question mark."""
    scheme, found, rest = address.partition("://")
    login, has_login, place = rest.rpartition("@")
    if has_login and not login.startswith("/"):  # which is the path of a file
        rest = f"***@{place}"
    place, has_query, _ = rest.partition("?")
    return f"{scheme}{found}{place}{'?***' if has_query else ''}"


def _client(uri: str, folder: Path | None) -> Any:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name, value in {**LIMITS, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        os.environ.setdefault(name, value)
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it tells of every table that it makes
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _log(
    client: Any,
    run_id: str,
    rows: Mapping[int, Mapping[str, float]],
    *,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, Value] | None = None,
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for step, row in rows.items() for name, value in row.items()]
    known = [Param(name, value) for name, value in (params or {}).items()]
    labels = [RunTag(name, str(value)[:5000]) for name, value in (tags or {}).items()]
    client.log_batch(run_id, metrics=metrics[:BATCH], params=known[:PARAMS], tags=labels)
    for start in range(PARAMS, len(known), PARAMS):
        client.log_batch(run_id, params=known[start : start + PARAMS])
    for start in range(BATCH, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
