"""Experiments for the tests of this folder: what a search leaves behind, without running one."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from search_spaces.rungs import FULL
from tests.tune_app.factories import make_experiment, make_record, store_baseline
from tests.tune_app.search.test_ladder import QAT
from trainables.config import BaselineTrain, ChannelPrune, DataConfig, Schedule, TrialConfig, digest
from trainables.results import StageRun
from trainables.storage import StoragePath, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.report.contents import Contents, read_contents

EVIL = "</script><img src=x onerror=alert(1)> & <b>bold</b>"
STARTED = datetime.fromisoformat("2025-01-02T03:04:05+00:00")
Params = dict[str, float | int | str]


def point(prune_frac: float, w_bits: int, a_bits: int = 8) -> Params:
    return {"prune_frac": prune_frac, "w_bits": w_bits, "a_bits": a_bits}


def write_stage(folder: ExperimentFolder, key: str, kind: str, accuracies: Sequence[float]) -> None:
    """The description of a finished stage, sealed as the cache seals it."""
    history = [
        {"epoch": i + 1, "loss": 1 - a, "train_accuracy": round(a - 0.1, 4), "val_accuracy": a}
        for i, a in enumerate(accuracies)
    ]
    body: dict[str, Any] = {"schema": 1, "kind": kind, "history": history, "seconds": 1.0}
    replace(folder.stages / key / "stage.json", json.dumps({**body, "sha256": digest(body)}).encode(), durable=False)


def at(record: TrialRecord, seconds: float, *, host: str = "h") -> TrialRecord:
    """The same record, begun so many seconds after STARTED."""
    environment = {**record.environment, "host": host}
    started = (STARTED + timedelta(seconds=seconds)).isoformat()
    return record.model_copy(update={"started_at": started, "environment": environment})


def small(storage: StoragePath, records: list[TrialRecord] | None = None, **changes: Any) -> Contents:
    """Six trials (tests.tune_app.factories.make_records) or others, and a baseline."""
    folder = make_experiment(storage, records, tables=False, **changes)
    store_baseline(folder, 0.96)
    return read_contents(folder)


def rich_experiment(storage: Path) -> ExperimentFolder:
    """Everything at once: two rungs, repeats, a constraint, failures with markup in their message, stages, CIFAR-10."""
    schedule = Schedule(epochs=1, lr=0.1)
    base = TrialConfig(
        data=DataConfig(name="cifar10"),
        baseline=BaselineTrain(schedule=schedule),
        prune=ChannelPrune(fine_tune=schedule),
        quantize=QAT,
    )
    records = rich_records()
    folder = make_experiment(
        storage,
        records,
        tables=False,
        base=base,
        space={"prune_frac": [0.0, 0.3, 0.5, 0.7], "w_bits": [2, 4, 8], "a_bits": [4, 8]},
        fidelity={"rungs": [{"name": "ptq", "qat_epochs": 0}], "eta": 1, "min_pairs": 3},
        constraints=["accuracy >= 0.75"],
        budget={"trials": 40},
    )
    store_baseline(folder, 0.96)
    write_stage(folder, "0" * 64, "train", [0.4, 0.7, 0.9, 0.96])
    for record in records:
        if record.assignment.rung == FULL and record.state == "complete":
            accuracy = record.metrics()["accuracy"]
            write_stage(folder, record.result.stages[-1].key, "qat", [accuracy - 0.1, accuracy - 0.02, accuracy])
    return folder


def refused_experiment(storage: Path) -> ExperimentFolder:
    """Eight bit widths, of which the two narrowest are at chance at both rungs; one point outside the constraints, and
    one that diverged."""
    records = []
    for w, accuracy in enumerate((0.10, 0.11, 0.79, 0.86, 0.871, 0.875, 0.876, 0.878), start=1):
        params = {**point(0.3 if w % 2 else 0.0, w), "importance": "l1" if w > 3 else "bn_taylor"}
        chance: Any = {"state": "invalid", "kind": "Collapsed", "message": "at chance", "measured": True}
        ended = {} if w > 2 else chance
        low = max(0.1, accuracy - 0.05)
        records.append(at(make_record(2 * w, params, low, 9_000 * w + 300, rung="ptq", **ended), 4.0 * w))
        records.append(at(_with_qat(make_record(2 * w + 1, params, accuracy, 9_000 * w, **ended)), 4.0 * w + 2))
    outside = make_record(30, {**point(0.0, 3, 4), "importance": "l1"}, 0.71, 25_000)
    diverged = make_record(31, {**point(0.0, 1, 4), "importance": "l1"}, state="invalid")
    records += [at(_with_qat(record), 40.0 + 2 * i) for i, record in enumerate((outside, diverged))]
    schedule = Schedule(epochs=1, lr=0.1)
    folder = make_experiment(
        storage,
        records,
        base=TrialConfig(
            data=DataConfig(name="cifar10"),
            baseline=BaselineTrain(schedule=schedule),
            prune=ChannelPrune(fine_tune=schedule),
            quantize=QAT,
        ),
        space={
            "prune_frac": [0.0, 0.3],
            "w_bits": list(range(1, 9)),
            "a_bits": [4, 8],
            "importance": ["l1", "bn_taylor"],
        },
        fidelity={"rungs": [{"name": "ptq", "qat_epochs": 0}], "eta": 1, "min_pairs": 3},
        constraints=["accuracy >= 0.75"],
        budget={"trials": 40},
    )
    store_baseline(folder, 0.88)
    write_stage(folder, "0" * 64, "train", [0.4, 0.6, 0.7, 0.8, 0.85, 0.88])
    for record in records:
        if record.assignment.rung == FULL:
            last = record.measured().get("accuracy", 0.1)
            write_stage(folder, record.result.stages[1].key, "channel_prune", [0.5, 0.6])
            write_stage(folder, record.result.stages[-1].key, "qat", [max(0.1, last - 0.1), last + 0.005, last])
    return folder


def wide_experiment(storage: Path) -> ExperimentFolder:
    """Bits of each layer group alone: many parameters, and labels that fill lines."""
    groups = ("first_conv", "expansion", "depthwise", "projection", "head")
    space = {f"{kind}_bits.{group}": [4, 8] for kind in "wa" for group in groups}
    records = [
        make_record(i, {name: (4, 8)[(i >> j) % 2] for j, name in enumerate(space)}, 0.8 + i / 100, 50_000 + 9_000 * i)
        for i in range(12)
    ]
    return small(storage, records, space=space).folder


def rich_records() -> list[TrialRecord]:
    """24 points at the lower rung; 20 of them in full, the others failed; two points three times."""
    points = [point(p, w, a) for p in (0.0, 0.3, 0.5, 0.7) for w in (2, 4, 8) for a in (4, 8)]
    found: list[TrialRecord] = []
    for i, params in enumerate(points):
        p, w, a = (float(params[name]) for name in ("prune_frac", "w_bits", "a_bits"))
        accuracy = round(0.95 - 0.2 * p**2 - 0.5 / 2**w - 0.4 / 2**a, 4)
        size = int(1e6 * (1 - p) * w / 32) + 3_000 + 40 * int(a)
        found.append(at(make_record(2 * i, params, round(accuracy - 0.6 / 2**w, 4), size, rung="ptq"), 3.0 * i))
        bad = w == 2 and p >= 0.5
        full = (
            make_record(2 * i + 1, params, state="invalid", kind="Diverged", message=EVIL)
            if bad
            else make_record(2 * i + 1, params, accuracy, size)
        )
        found.append(at(_with_qat(full), 3.0 * i + 1.5, host="hosts"[: 4 + i % 2]))
    for repeat in (1, 2):
        for j, params in enumerate((point(0.3, 4), point(0.5, 4))):
            again = make_record(
                60 + 2 * repeat + j, params, 0.90 + 0.004 * repeat - 0.02 * j, 91_000 - 25_000 * j, repeat=repeat
            )
            found.append(at(_with_qat(again), 100.0 + 3 * repeat + j))
    return found


def _with_qat(record: TrialRecord) -> TrialRecord:
    """Its stages as a search with training has them, of a length that can be seen."""
    stages = [
        StageRun(kind="train", key="0" * 64, seconds=0.01, cached=True),
        StageRun(
            kind="channel_prune",
            key=digest(["prune", record.assignment.params["prune_frac"]]),
            seconds=0.4,
            cached=False,
        ),
        StageRun(
            kind="qat", key=digest([record.assignment.params, record.assignment.repeat]), seconds=0.9, cached=False
        ),
    ]
    result = record.result.model_copy(update={"stages": stages})
    return record.model_copy(update={"result": result})
