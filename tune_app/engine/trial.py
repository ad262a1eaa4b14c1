"""One trial in plain Python: run_trial(), and the records of trials that found nothing."""

import dataclasses
import math
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trainables.errors import NotFinite, OutOfMemory, StorageUnavailable, TrialFailure, UnexpectedError
from trainables.results import Completed, Failed, Failure, Measurement, StageRun
from tune_app.engine.images import images_here
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import ASSIGNMENTS, Assignment, Ledger, TrialRecord
from tune_app.ledger.versions import installed_version, plug_ins_of
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.stages.workplace import Workplace

MAX_TRACEBACK = 8_000
"""Characters of a traceback that a record keeps, from its end: some 80 lines, and a record stays quick to read."""
MAX_MESSAGE = 1_000
"""Characters of an error's message that a record keeps, from its start: more is no line that people read."""


@dataclass(frozen=True)
class Grant:
    """What the driver gives a trial of the GPU, and how often that was not enough before."""

    gpu_share: float = 0.0
    out_of_memory: int = 0


def workplace_of(
    spec: ExperimentSpec, data: "DataSet", *, gpu: float | None = None, first_threads: int | None = None
) -> "Workplace":
    """Opens where trials of a spec run, with their threads, and with this share of a GPU or else their first one.

    A baseline that is made here again has the threads that it was made with, and a new one `first_threads`.

    Raises:
        ConfigError: the images of a large set are not on this machine, and cannot be made.
        StorageUnavailable: they cannot be kept.
    """
    from trainables.stages.workplace import open_workplace

    share, folder = spec.resources, ExperimentFolder(spec.folder)
    stored = read_baseline(folder)
    return open_workplace(
        images_here(spec, data),
        folder.stages,
        cpu=share.cpu,
        gpu=share.gpu_at_first if gpu is None else gpu,
        compile=share.compile,
        bf16=share.bf16,
        first_threads=stored.threads if stored else first_threads,
    )


def run_trial(
    work: Assignment,
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    workplace: "Workplace",
    grant: Grant = Grant(),
) -> TrialRecord:
    """Runs an assignment and writes its record; one that has a record already is answered from it.

    Every way to fail ends in a record, except a storage that does not answer, and memory: a larger share may do.

    Raises:
        StorageUnavailable: the record or a stage cannot be written.
        OutOfMemory: the GPU's memory was not enough.
    """
    ledger = Ledger(folder.trials)
    known = ledger.find(work.trial_id)
    if known is not None:
        return known
    started_at, started = datetime.now(UTC), time.perf_counter()
    workplace.device.reset_peak()
    result, plug_ins = _outcome(work, spec, folder, workplace)
    record = TrialRecord(
        assignment=work,
        result=result,
        environment=environment(workplace.device.name, plug_ins=plug_ins),
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        gpu_share=grant.gpu_share,
        gpu_peak_share=workplace.device.peak_share(),
        out_of_memory=grant.out_of_memory,
    )
    ledger.add(record)
    # Another attempt may have been first; the ledger's record is the truth.
    return ledger.find(work.trial_id) or record


def _outcome(
    work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, workplace: "Workplace"
) -> tuple[Completed | Failed, str]:
    """Returns how a trial ends, and the packages whose plug-ins make it."""
    from trainables.pipeline import run_pipeline

    runs, plug_ins = list[StageRun](), ""
    try:
        config = spec.trial(work.params, work.rung, repeat=work.repeat)
        plug_ins = plug_ins_of(config)
        done = run_pipeline(config, workplace, folder.packed_file(work.trial_id), runs)
        _check_finite(done, spec)
        return done, plug_ins
    except StorageUnavailable:
        raise
    except TrialFailure as err:
        return failed(err, stages=runs), plug_ins
    except Exception as err:
        from trainables.device import is_out_of_memory

        if is_out_of_memory(err):
            raise OutOfMemory(f"{work.label} ran out of GPU memory") from err
        return failed(unexpected(err), stages=runs), plug_ins


def unexpected(err: Exception, *, at: str = "") -> UnexpectedError:
    """Returns the error that stands for any other one, with its traceback; `at` begins its message."""
    told = traceback.TracebackException.from_exception(err)  # also of an error whose own words fail
    wrapped = UnexpectedError(" ".join(f"{at}{type(err).__name__}: {told}".split()))
    wrapped.trace = "".join(told.format())
    return wrapped


def failed(err: TrialFailure, *, stages: Sequence[StageRun] = ()) -> Failed:
    """Returns the result of a trial that ended with this error, after or in the last of these stages."""
    message, trace = " ".join(str(err).split()), getattr(err, "trace", "")
    failure = Failure(
        kind=type(err).__name__,
        state=err.state,
        stage=err.stage,
        message=message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…",
        traceback=trace[-MAX_TRACEBACK:],
    )
    measured = err.measurement if isinstance(err.measurement, Measurement) else None
    return Failed(failure=failure, measurement=measured, stages=list(stages))


def unfinished_record(work: Assignment, err: TrialFailure, grant: Grant) -> TrialRecord:
    """Returns the record that the driver writes for a trial that could not write its own."""
    return TrialRecord(
        assignment=work,
        result=failed(err),
        environment=environment(""),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        gpu_share=grant.gpu_share,
        out_of_memory=grant.out_of_memory,
    )


def _check_finite(done: Completed, spec: ExperimentSpec) -> None:
    numbers = done.measurement.model_dump()
    bad = [name for name in spec.metrics if numbers[name] is None or not math.isfinite(numbers[name])]
    if bad:
        raise NotFinite(f"{', '.join(f'{name} is {numbers[name]}' for name in bad)}; objectives must be finite numbers")


def environment(device: str, *, plug_ins: str = "") -> dict[str, str]:
    """Returns where a trial ran, and the versions that made its numbers; those of plug-ins only where it used some."""
    versions = {name.replace("-", "_"): installed_version(name) for name in ("tune-app", "torch", "ray")}
    return {**versions, **({"plug_ins": plug_ins} if plug_ins else {}), "host": socket.gethostname(), "device": device}


def assignments(config: dict[str, Any]) -> list[Assignment]:
    """Reads what a Ray trial has to do from its configuration."""
    return ASSIGNMENTS.validate_json(config["work"])


def ray_config(work: Sequence[Assignment], grant: Grant) -> dict[str, Any]:
    """Returns the configuration of a Ray trial that does this work: flat, since Tune copies and walks it at every turn.

    `name` is what people read in Ray's dashboard: `p30_w4_a8`, or `p30_w4_a8@ptq+7` for a batch of eight.
    """
    first, *more = work
    return {
        "name": first.label + (f"+{len(more)}" if more else ""),
        "folder": first.trial_id,
        "work": ASSIGNMENTS.dump_json(list(work)).decode(),
        **dataclasses.asdict(grant),
    }
