"""run_search: start and resume are this one path — lease, baseline, replay, search, tables."""

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from cluster.errors import first_line
from trainables.config import training_of
from trainables.errors import ConfigError, TuneAppError
from trainables.storage import exists, remove_tree
from tune_app.baseline import BaselineInfo, make_baseline, read_baseline
from tune_app.driver import Driver
from tune_app.errors import ClusterUnavailable, SearchAborted
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.lease import Lease
from tune_app.ledger import Assignment, Ledger, TrialRecord, in_full, latest
from tune_app.live import LiveView, Status
from tune_app.point_keys import remembered_keys, steps_of
from tune_app.preflight import refuse
from tune_app.probes import check_cluster
from tune_app.proposer import Proposer
from tune_app.repeats import wants_repeats
from tune_app.screen import open_screen
from tune_app.session import ray_session
from tune_app.signals import StopSignal
from tune_app.tables import write_tables
from tune_app.tracking.beside import tracked
from tune_app.warm_start import compare, take_over
from tune_app.worker import TrialWorker

POLL_S = 0.3


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: ExperimentFolder
    baseline: BaselineInfo
    records: list[TrialRecord]
    new: int
    quarantined: list[str]
    why: str
    """What ended it: the part of the budget that is spent, or that no point is left."""
    seconds: float = 0.0
    """Of the search itself, without Ray's start and the baseline."""


def run_baseline(spec: ExperimentSpec, *, console: Console | None = None) -> BaselineInfo:
    """Makes the experiment's baseline, or finds it.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on from the last epoch.
    """
    folder = ExperimentFolder(spec.folder)
    status = Status(spec)
    console = console or Console(stderr=True)
    with _experiment(spec, folder, console), _view(status, folder, console) as view:
        known = read_baseline(folder)
        if known is not None:
            return known
        with ray_session() as stop:
            return _prepare(spec, view, stop)[0]


def run_search(
    spec: ExperimentSpec,
    *,
    warm_start: ExperimentFolder | None = None,
    console: Console | None = None,
    worker: type[TrialWorker] = TrialWorker,
    dashboard: bool = False,
    retry_failed: bool = False,
) -> Outcome:
    """Runs what is left of the budget, first taking over what another experiment found out.

    With `retry_failed`, trials that failed by an error or a lost worker run once more, each as a new attempt.
    `worker` runs the trials and writes their records. A Ray that is started here gets a `dashboard` if wanted.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on where this one stopped.
    """
    folder = ExperimentFolder(spec.folder)
    status = Status(spec)
    console = console or Console(stderr=True)
    with (
        _experiment(spec, folder, console) as lease,
        tracked(spec, folder, console),
        _view(status, folder, console) as view,
    ):
        records, damaged = Ledger(folder.trials).read()
        Ledger(folder.trials).quarantine(damaged)
        names = [d.path.name for d in damaged]
        known = read_baseline(folder)
        if known is not None and _is_spent(
            latest(records), spec, retry_failed=retry_failed
        ):  # nothing to do needs no cluster
            write_tables(folder, latest(records), spec, reference=known.reference(spec))
            _refuse_empty(latest(records), spec)
            return Outcome(folder, known, latest(records), 0, names, f"{spec.budget.trials} trials")
        with ray_session(dashboard=dashboard) as stop:
            baseline, data = _prepare(spec, view, stop)
            in_flight = lease.in_flight()
            proposer = _replay(spec, folder, baseline, in_flight, warm_start, view, retry_failed=retry_failed)
            before = len(proposer.records)
            driver = Driver(spec, folder, lease, proposer, baseline, status, view, stop, worker)
            started = time.monotonic()
            try:
                driver.fit(data)
            finally:
                driver.tables.now()
            seconds = time.monotonic() - started
    _refuse_empty(proposer.records, spec)
    why = proposer.done or "every point of the space"
    return Outcome(folder, baseline, proposer.records, len(proposer.records) - before, names, why, seconds)


def _is_spent(records: list[TrialRecord], spec: ExperimentSpec, *, retry_failed: bool) -> bool:
    if retry_failed and any(r.state == "failed" for r in records):
        return False
    return in_full(records) >= spec.budget.trials and not wants_repeats(records, spec)


def _replay(
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    baseline: BaselineInfo,
    in_flight: list[Assignment],
    warm_start: ExperimentFolder | None,
    view: LiveView,
    *,
    retry_failed: bool,
) -> Proposer:
    """A proposer that knows every record, of this experiment and of the one that it starts from."""

    key_of = remembered_keys(spec, baseline.fingerprint)
    advice: list[TrialRecord] = []
    if warm_start is not None:
        found = compare(Ledger(warm_start.trials).read()[0], warm_start.read_spec(), spec, key_of)
        taken, advice = take_over(found.results, warm_start, folder), found.advice
        view.phase(f"{warm_start.path}: {taken} results taken over, {len(advice)} records as advice")
    return Proposer(
        spec,
        key_of=key_of,
        steps_of=lambda params, rung: steps_of(spec, baseline.fingerprint, params, rung),
        reference=baseline.reference(spec),
        records=Ledger(folder.trials).read()[0],
        in_flight=in_flight,
        advice=advice,
        screen=open_screen(spec, baseline.architecture),
        retry_failed=retry_failed,
    )


def _prepare(spec: ExperimentSpec, view: LiveView, stop: StopSignal) -> tuple[BaselineInfo, Any]:
    """Loads the data once and makes the baseline, in a worker; returns the data's object reference."""
    view.phase("asking every node")
    refuse(check_cluster(spec))
    if read_baseline(ExperimentFolder(spec.folder)) is not None:
        view.phase("loading data")
    else:
        view.phase("loading data, making the baseline", epochs=_baseline_epochs(spec))
    share = spec.resources
    task = ray.remote(num_returns=2, num_cpus=share.cpu, num_gpus=share.gpu_at_first)(_prepare_in_worker)
    data, info = task.remote(spec.model_dump_json())
    try:
        while not ray.wait([info], timeout=POLL_S)[0]:
            stop.check()
        return ray.get(info), data
    except RayTaskError as err:
        if isinstance(err.cause, TuneAppError):
            raise err.cause from None
        raise
    except RayError as err:
        raise ClusterUnavailable(f"the baseline's worker was lost: {first_line(err)}. Run again to go on.") from err


def _baseline_epochs(spec: ExperimentSpec) -> int:
    """0 where they cannot be counted: none at all, or those of a teacher come before."""
    schedule = training_of(spec.base.baseline)
    return 0 if schedule is None or schedule.distill is not None else schedule.epochs


def _prepare_in_worker(spec_json: str) -> tuple[Any, BaselineInfo]:
    from trainables.data import load_data

    spec = ExperimentSpec.model_validate_json(spec_json)
    data = load_data(spec.base.data)
    made = data, make_baseline(spec, data)
    gc.freeze()  # Ray ends this process while the first workers start: it has no need to look for garbage then
    return made


def _refuse_empty(records: list[TrialRecord], spec: ExperimentSpec) -> None:
    if any(r.state == "complete" for r in records) or not records:
        return
    reason, count = Counter(r.reason for r in records).most_common(1)[0]
    raise SearchAborted(f"none of {len(records)} trials of {spec.name!r} completed; {count} ended with: {reason}")


@contextlib.contextmanager
def _experiment(spec: ExperimentSpec, folder: ExperimentFolder, console: Console) -> Iterator[Lease]:
    """The lease on a claimed experiment. Input that is refused before anything finished leaves no folder behind."""
    existed = exists(folder.path)
    try:
        with Lease(folder) as lease:
            changed = folder.claim(spec)
            if changed:
                console.print(f"changed since the last run: {'; '.join(changed)}", highlight=False, soft_wrap=True)
            yield lease
    except ConfigError:
        if not existed and read_baseline(folder) is None:
            remove_tree(folder.path)
        raise


@contextlib.contextmanager
def _view(status: Status, folder: ExperimentFolder, console: Console | None) -> Iterator[LiveView]:
    with LiveView(status, console=console, stages=folder.stages) as view:
        yield view
