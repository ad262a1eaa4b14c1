"""Experiments with stages and epochs, as a search leaves them, and a tracker that writes everything down."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from tests.tune_app.factories import make_baseline_info, make_record, make_spec
from trainables.config import Architecture, ModelConfig, QuantAwareTrain, Schedule, TrialConfig, stage_keys
from trainables.stages.files import finished_files
from trainables.stages.markers import FINISHED
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageResult
from trainables.storage import StoragePath, create_once, publish_folder, replace, sha256
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger, Params, TrialRecord
from tune_app.search.keys import progress_keys
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.tracking.protocol import Epoch, Overview, RunEnd, RunInfo, TrackerUnavailable

EPOCHS = {"train": 3, "channel_prune": 2, "qat": 4}
"""Of the stages of `make_tracked`."""
POINT: Params = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}
FINGERPRINT = "f"


def make_tracked(storage: StoragePath, **changes: Any) -> ExperimentFolder:
    """An experiment with a baseline and nothing else; `changes` replace fields of its spec."""
    plain = make_spec(storage)
    schedule = {kind: Schedule(epochs=n, lr=0.1) for kind, n in EPOCHS.items()}
    base: TrialConfig = plain.base.model_copy(
        update={
            "baseline": plain.base.baseline.model_copy(update={"schedule": schedule["train"]}),
            "prune": plain.base.prune.model_copy(update={"fine_tune": schedule["channel_prune"]}),
            "quantize": QuantAwareTrain(kind="qat", schedule=schedule["qat"]),
        }
    )
    spec = make_spec(storage, **{"base": base, "fidelity": None, **changes})
    folder = ExperimentFolder(spec.folder)
    replace(folder.spec_file, dump_spec(spec).encode(), durable=False)
    [key, *_] = stage_keys(spec.base, fingerprint=FINGERPRINT)
    info = make_baseline_info().model_copy(update={"key": key})
    replace(folder.baseline_file, info.model_dump_json().encode(), durable=False)
    return folder


def work_of(params: Params = POINT, number: int = 0) -> Assignment:
    """What `finish` makes a record of."""
    return make_record(number, params).assignment


def keys_of(folder: ExperimentFolder, work: Assignment) -> dict[str, str]:
    """The key of each stage by its kind."""
    spec: ExperimentSpec = folder.read_spec()
    stages = spec.trial(work.params, work.rung, repeat=work.repeat).stages()
    return dict(zip([s.kind for s in stages], progress_keys(spec, FINGERPRINT, work), strict=True))


def rows(epochs: int) -> list[dict[str, float]]:
    """The history of a training run."""
    return [{"epoch": i, "lr": 0.1, "loss": 1 / i, "val_accuracy": 1 - 1 / (i + 1)} for i in range(1, epochs + 1)]


def publish(
    folder: ExperimentFolder, work: Assignment, kind: str, history: Sequence[dict[str, float]] | None = None
) -> None:
    """Finishes a stage of a trial; one that is finished stays."""
    architecture = Architecture(model=ModelConfig(), classes=10, channels=1, image_size=32)
    found = rows(EPOCHS[kind]) if history is None else list(history)
    result = StageResult(architecture, None, {"w": torch.zeros(1)}, {}, found)
    key = keys_of(folder, work)[kind]
    publish_folder(finished_files(result, kind=kind, seconds=1.0), folder.stages / key, marker=FINISHED)
    SavedEpochs(folder.stages / "progress" / key).clear()


def train(folder: ExperimentFolder, work: Assignment, kind: str, epochs: int, *, phase: int | None = None) -> None:
    """A trial is at work on a stage and has saved so many epochs of it."""
    progress = SavedEpochs(folder.stages / "progress" / keys_of(folder, work)[kind])
    chosen = progress if phase is None else progress.phase(phase)
    chosen.save(SavedEpoch({"w": torch.zeros(3)}, rows(epochs)))
    begin(folder, work)


def begin(folder: ExperimentFolder, *work: Assignment) -> None:
    """The driver gave them to workers, which have begun."""
    Lease(folder).save_in_flight(work)
    for each in work:
        replace(folder.heartbeat(each.trial_id), b"{}", durable=False)


def finish(folder: ExperimentFolder, params: Params = POINT, number: int = 0, **about: Any) -> TrialRecord:
    """A trial with all its stages, its packed file and its record."""
    record = make_record(number, params, **about)
    for kind in keys_of(folder, record.assignment):
        publish(folder, record.assignment, kind)
    if record.state == "complete":
        content = b"packed " + record.assignment.trial_id.encode()
        create_once(folder.artifacts / record.assignment.trial_id / "model.mbq", content)
        result = record.result.model_copy(update={"artifact_sha256": sha256(content)})
        record = record.model_copy(update={"result": result})
    assert Ledger(folder.trials).add(record)
    return record


def refuse(folder: ExperimentFolder, params: Params = POINT, number: int = 0) -> TrialRecord:
    """A trial whose network was measured, at chance."""
    about: dict[str, Any] = {"accuracy": 0.1, "size_bytes": 60_000, "kind": "Collapsed", "message": "at chance"}
    return finish(folder, params, number, state="invalid", measured=True, **about)


@dataclass
class Page:
    """One run in the notebook."""

    info: RunInfo
    epochs: list[Epoch] = field(default_factory=list)
    ends: list[RunEnd] = field(default_factory=list)
    left: int = 0
    opened: int = 0
    last_step: int | None = None

    def log(self, epochs: Sequence[Epoch]) -> None:
        self.epochs += epochs

    def finish(self, end: RunEnd) -> None:
        self.ends.append(end)

    def leave(self) -> None:
        self.left += 1

    @property
    def steps(self) -> list[int]:
        return [epoch.step for epoch in self.epochs]


@dataclass
class Notebook:
    """A tracker that keeps everything; it stops answering after so many runs of trials."""

    pages: dict[str, Page] = field(default_factory=dict)
    """Of trials; those of baselines are in `baselines`."""
    baselines: dict[str, Page] = field(default_factory=dict)
    overviews: list[Overview] = field(default_factory=list)
    closed: bool = False
    runs_left: int = 1_000_000
    destination: str = "notebook"
    live: bool = True

    def open(self, info: RunInfo) -> Page:
        if info.kind == "baseline":
            pages = self.baselines
        elif self.runs_left:
            pages, self.runs_left = self.pages, self.runs_left - 1
        else:
            raise TrackerUnavailable("the notebook is full")
        page = pages.setdefault(info.run_id, Page(info))
        page.opened += 1
        return page

    def show(self, overview: Overview) -> None:
        self.overviews.append(overview)

    def close(self) -> None:
        self.closed = True


def png() -> bytes:
    """A picture of 4 x 3 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(stream, "PNG")
    return stream.getvalue()
