"""Reads back what W&B wrote offline: a log in LevelDB's format that holds protobuf records.

github.com/google/leveldb/blob/main/doc/log_format.md; the file begins with seven bytes of W&B's own.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7
FULL, LAST = 1, 4


@dataclass
class OfflineRun:
    """One file: what `wandb sync` would send."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    tags: list[str] = field(default_factory=list)
    started: tuple[int, int] = (0, 0)
    resume: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    """The record of each, by name."""
    step_metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False
    folder: Path = Path()

    @property
    def steps(self) -> list[int]:
        """Of its rows, in their order."""
        return [row["_step"] for row in self.history]


def offline_runs(place: Path) -> dict[str, list[OfflineRun]]:
    """By run id what was written below a folder, in the order in which it was begun."""
    found: dict[str, list[OfflineRun]] = {}
    runs = [read_run(path) for path in place.glob("wandb/offline-run-*/*.wandb")]
    for run in sorted(runs, key=lambda run: run.started):
        found.setdefault(run.run_id, []).append(run)
    return found


def read_run(path: Path) -> OfflineRun:
    """One file; a record that was cut off at its end is left out."""
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun(folder=path.parent)
    for content in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        _take(record, run)
    return run


def _take(record: Any, run: OfflineRun) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        about = record.run
        run.run_id, run.name, run.group, run.resume = about.run_id, about.display_name, about.run_group, about.resume
        run.job_type, run.project, run.tags = about.job_type, about.project, list(about.tags)
        run.started = about.start_time.seconds, about.start_time.nanos
        _update(run.config, about.config.update)
    elif kind == "config":
        _update(run.config, record.config.update)
    elif kind == "history":
        run.history.append({})
        _update(run.history[-1], record.history.item)
    elif kind == "summary":
        _update(run.summary, record.summary.update)
    elif kind == "artifact":
        run.artifacts[record.artifact.name] = record.artifact
    elif kind == "metric":
        run.step_metrics[record.metric.glob_name or record.metric.name] = record.metric.step_metric
    elif kind == "exit":
        run.exit_code = record.exit.exit_code
    elif kind == "preempting":
        run.preempting = True


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *branches, leaf = item.nested_key or [item.key]
        place = target
        for branch in branches:
            place = place.setdefault(branch, {})
        place[leaf] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[bytes]:
    place, parts = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""
