"""One trial in plain Python: run_trial(), and the records of trials that found nothing."""

import math
import socket
import time
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from trainables.errors import NotFinite, StorageUnavailable, TrialFailure, UnexpectedError, WorkerLost
from trainables.results import Completed, Failed, Failure
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.ledger import Assignment, Ledger, TrialRecord

if TYPE_CHECKING:
    from trainables.workplace import Workplace

MAX_TRACEBACK = 8_000


def run_trial(work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, workplace: "Workplace") -> TrialRecord:
    """Runs an assignment and writes its record; one that has a record already is answered from it.

    Every way to fail ends in a record, except a storage that does not answer.

    Raises:
        StorageUnavailable: the record or a stage cannot be written.
    """
    ledger = Ledger(folder.trials)
    known = ledger.find(work.trial_id)
    if known is not None:
        return known
    started_at, started = datetime.now(UTC), time.perf_counter()
    result = _outcome(work, spec, folder, workplace)
    record = TrialRecord(
        assignment=work,
        result=result,
        environment=environment(workplace.device.name),
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
    )
    ledger.add(record)
    # Another attempt may have been first; the ledger's record is the truth.
    return ledger.find(work.trial_id) or record


def _outcome(
    work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, workplace: "Workplace"
) -> Completed | Failed:
    from trainables.pipeline import run_pipeline

    try:
        config = spec.trial(work.params, work.rung, repeat=work.repeat)
        done = run_pipeline(config, workplace, folder.artifacts / work.trial_id / "model.mbq")
        _check_finite(done, spec)
        return done
    except StorageUnavailable:
        raise
    except TrialFailure as err:
        return failed(err)
    except Exception as err:
        wrapped = UnexpectedError(f"{type(err).__name__}: {err}")
        wrapped.__cause__ = err
        return failed(wrapped, trace="".join(traceback.format_exception(err)))


def failed(err: TrialFailure, *, trace: str = "") -> Failed:
    """The result of a trial that ended with this error."""
    failure = Failure(
        kind=type(err).__name__,
        state=err.state,
        stage=err.stage,
        message=str(err),
        traceback=trace[-MAX_TRACEBACK:],
    )
    return Failed(failure=failure, stages=[])


def lost_record(work: Assignment, retries: int) -> TrialRecord:
    """The record that the driver writes for a trial whose worker never came back."""
    err = WorkerLost(f"the worker was lost {retries + 1} times (killed, out of memory, or its node went away)")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return TrialRecord(assignment=work, result=failed(err), environment=environment(""), started_at=now, seconds=0.0)


def _check_finite(done: Completed, spec: ExperimentSpec) -> None:
    numbers = done.measurement.model_dump()
    wanted = [*spec.objectives, *(c.metric for c in spec.constraints)]
    bad = [name for name in wanted if not math.isfinite(numbers[name])]
    if bad:
        raise NotFinite(f"{', '.join(f'{name} is {numbers[name]}' for name in bad)}; objectives must be finite numbers")


def environment(device: str) -> dict[str, str]:
    """Where a trial ran, and the versions that made its numbers."""
    versions = {name.replace("-", "_"): version(name) for name in ("tune-app", "torch", "ray")}
    return {**versions, "host": socket.gethostname(), "device": device}


def assignments(config: dict[str, Any]) -> list[Assignment]:
    """What a Ray trial has to do, from its configuration."""
    return [Assignment.model_validate(work) for work in config["work"]]


def trial_name(config: dict[str, Any]) -> str:
    """What people read in Ray's dashboard: `p30_w4_a8@full`, or `p30_w4_a8@ptq+7` for a batch of eight."""
    first, *more = assignments(config)
    return first.label + (f"+{len(more)}" if more else "")
