"""Small specs and records, shared by the tests of this folder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search_spaces.rungs import FULL
from trainables.config import (
    Architecture,
    BaselineTrain,
    BaselineUntrained,
    ChannelPrune,
    ModelConfig,
    PostTrainingQuant,
    Schedule,
    TrialConfig,
    digest,
)
from trainables.errors import State
from trainables.results import SCORES, Completed, Failed, Failure, Measurement, StageRun
from trainables.storage import StoragePath, replace
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder, stored_text
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger, Params, TrialRecord, latest
from tune_app.search.proposer import Proposer
from tune_app.search.strategy import Step
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import ledger_state, settle
from tune_app.tables.totals import totals_of
from tune_app.tables.trials import write_tables

BASELINE_BYTES = 1_000_000
REFERENCE = {
    "accuracy": 0.0,
    "top5_accuracy": 0.0,
    "balanced_accuracy": 0.0,
    "macro_f1": 0.0,
    "cross_entropy": 10.0,
    "size_bytes": float(BASELINE_BYTES),
    "parameters": 1e6,
    "compression_ratio": 0.0,
    "macs": 1e8,
    "bops": 1e11,
    "activation_bytes": 1e7,
    "peak_activation_bytes": 1e6,
    "sparsity_achieved": 0.0,
}
SPACE = {"prune_frac": [0, 0.3, 0.5], "w_bits": [2, 4, 8], "a_bits": [4, 8]}


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_spec(storage: StoragePath, **changes: Any) -> ExperimentSpec:
    """An experiment under `storage`; `changes` replace fields of the spec."""
    schedule = Schedule(epochs=1, lr=0.1)
    base = TrialConfig(
        baseline=BaselineTrain(schedule=schedule), prune=ChannelPrune(fine_tune=schedule), quantize=PostTrainingQuant()
    )
    fields = {"name": "toy", "storage": str(storage), "base": base, "space": SPACE, "budget": {"trials": 10}}
    return ExperimentSpec.model_validate({**fields, **changes})


def scores_like(accuracy: float) -> dict[str, float]:
    """The other scores of a network with this accuracy."""
    return {
        "top5_accuracy": 1 - (1 - accuracy) / 2,
        "balanced_accuracy": max(0.0, accuracy - 0.01),
        "macro_f1": max(0.0, accuracy - 0.02),
        "cross_entropy": 2 * (1 - accuracy),
    }


def rehearsal(storage: StoragePath) -> TrialConfig:
    """The base of `make_spec` with few images."""
    base = make_spec(storage).base
    return base.model_copy(update={"data": base.data.model_copy(update={"images": 5_000})})


def make_baseline_info(accuracy: float = 0.95) -> BaselineInfo:
    """A baseline of BASELINE_BYTES."""
    counts = {"macs": 100_000_000, "bops": 10**11, "activation_bytes": 10_000_000, "peak_activation_bytes": 1_000_000}
    return BaselineInfo(
        key="k",
        fingerprint="f",
        accuracy=accuracy,
        **scores_like(accuracy),
        n=179,
        classes=10,
        parameters=BASELINE_BYTES // 4,
        size_bytes=BASELINE_BYTES,
        seconds=1.0,
        **counts,
    )


def make_untrained(storage: StoragePath, **changes: Any) -> ExperimentFolder:
    """The trials of `make_experiment`, of a placeholder."""
    plain = make_spec(storage)
    base = plain.base.model_copy(update={"baseline": BaselineUntrained(kind="untrained")})
    folder = make_experiment(storage, **{"base": base, **changes})
    store_baseline(folder, untrained=True)
    return folder


def store_baseline(folder: ExperimentFolder, accuracy: float = 0.95, *, untrained: bool = False) -> None:
    """Puts it where a search would have written it."""
    info = make_baseline_info(accuracy).model_copy(update={"untrained": untrained})
    replace(folder.baseline_file, info.model_dump_json().encode())


def make_record(
    number: int,
    params: Mapping[str, float | int | str],
    accuracy: float = 0.9,
    size_bytes: int = 100_000,
    state: State = "complete",
    *,
    kind: str = "Diverged",
    message: str = "the loss became NaN",
    rung: str = FULL,
    attempt: int = 1,
    repeat: int = 0,
    environment: Mapping[str, str] | None = None,
    measured: bool = False,
) -> TrialRecord:
    """A finished trial; its configuration is named by its parameters alone. `measured`: also where it failed."""
    key = digest([dict(params), repeat] if repeat else dict(params))
    stages = [
        StageRun(kind="train", key="0" * 64, seconds=0.25, cached=True),
        StageRun(kind="ptq", key=key, seconds=1.5, cached=False),
    ]
    measurement = Measurement(
        accuracy=accuracy,
        **scores_like(accuracy),
        accuracy_trained=accuracy,
        n=179,
        size_bytes=size_bytes,
        size_breakdown={"weights": size_bytes - min(size_bytes, 100), "header": min(size_bytes, 100)},
        compression_ratio=BASELINE_BYTES / size_bytes,
        parameters=2 * size_bytes,
        prune_frac_achieved=float(params.get("prune_frac", 0)),
        sparsity_achieved=0.25,
        macs=10 * size_bytes,
        bops=640 * size_bytes,
        activation_bytes=40_000,
        peak_activation_bytes=8_000,
        formula_bytes={"a": size_bytes // 2, "kalkura": 2 * size_bytes},
    )
    architecture = Architecture(model=ModelConfig(), classes=10, channels=1, image_size=32)
    result: Completed | Failed
    if state == "complete":
        result = Completed(measurement=measurement, architecture=architecture, artifact_sha256="f" * 64, stages=stages)
    else:
        failure = Failure(kind=kind, state=state, stage="ptq", message=message)
        result = Failed(failure=failure, measurement=measurement if measured else None, stages=stages)
    return TrialRecord(
        assignment=Assignment(
            number=number, config_key=key, params=dict(params), rung=rung, repeat=repeat, seed=number, attempt=attempt
        ),
        result=result,
        environment={"tune_app": "0.1.0", "host": "h", "device": "cpu", **(environment or {})},
        started_at="2025-01-02T03:04:05+00:00",
        seconds=2.0,
    )


def of_older_version(record: TrialRecord) -> TrialRecord:
    """The record without the scores that came later."""
    measurement = record.result.measurement
    assert measurement is not None
    older = measurement.model_copy(update=dict.fromkeys(SCORES[1:]))
    return record.model_copy(update={"result": record.result.model_copy(update={"measurement": older})})


def make_records() -> list[TrialRecord]:
    """Six trials: three on the frontier (0, 1, 3), two dominated, one invalid."""

    def point(prune_frac: float, w_bits: int) -> dict[str, float | int | str]:
        return {"prune_frac": prune_frac, "w_bits": w_bits, "a_bits": 8}

    return [
        make_record(0, point(0.0, 8), 0.95, 250_000),
        make_record(1, point(0.3, 4), 0.93, 90_000),
        make_record(2, point(0.5, 8), 0.90, 120_000),
        make_record(3, point(0.5, 4), 0.88, 60_000),
        make_record(4, point(0.5, 2), state="invalid"),
        make_record(5, point(0.3, 8), 0.93, 175_000),
    ]


def make_experiment(
    storage: StoragePath, records: list[TrialRecord] | None = None, *, tables: bool = True, **changes: Any
) -> ExperimentFolder:
    """An experiment in a storage: spec, ledger, and its tables unless they are not wanted."""
    spec = make_spec(storage, **changes)
    folder = ExperimentFolder(spec.folder)
    replace(folder.spec_file, stored_text(spec), durable=False)
    found = make_records() if records is None else records
    for record in found:
        assert Ledger(folder.trials).add(record)
    if tables:
        tabulate(folder)
    return folder


def store_files(folder: ExperimentFolder) -> ExperimentFolder:
    """Puts an empty file in the place of the packed file of every complete trial."""
    for record in Ledger(folder.trials).read()[0]:
        if record.state == "complete":
            replace(folder.packed_file(record.assignment.trial_id), b"", durable=False)
    return folder


def tabulate(folder: ExperimentFolder, records: Sequence[TrialRecord] | None = None) -> None:
    """Writes the tables of the ledger as a search does it at its end, or of these records as one that goes on."""
    spec, seen, baseline = folder.read_spec(), ledger_state(folder), read_baseline(folder)
    reference = REFERENCE if baseline is None else baseline.reference(spec)
    with Lease(folder) as lease:
        if records is not None:
            write_tables(lease, latest(records), spec, reference=reference)
            return
        found = latest(Ledger(folder.trials).read()[0])
        settle(lease, found, spec, totals_of(found, spec, reference), reference=reference, seen=seen)


def make_steps(params: Params, rung: str) -> list[Step]:
    """The stages of a point without a pipeline: one parent for each fraction, and one stage of its own."""
    own = Step("ptq" if rung == "ptq" else "qat", digest([dict(params), rung]), 1 if rung == "ptq" else 2)
    parent = Step("channel_prune", digest(["parent", params.get("prune_frac")]), 3)
    return [parent, own] if params.get("prune_frac") else [own]


def drive_with(
    proposer: Proposer, run: Callable[[Assignment], TrialRecord], *, parallel: int, stop_after: int | None = None
) -> list[TrialRecord]:
    """Runs what is proposed, `parallel` at a time, oldest first, to the end or until so many have finished."""
    done: list[TrialRecord] = []
    running: list[Assignment] = []
    while stop_after is None or len(done) < stop_after:
        while len(running) < parallel and (work := proposer.next()) is not None:
            running.append(work)
        if not running:
            break
        record = run(running.pop(0))
        proposer.tell(record)
        done.append(record)
    return done
