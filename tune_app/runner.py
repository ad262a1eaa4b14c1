"""run_search: start and resume are this one path — lease, baseline, replay, search, tables."""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune.schedulers import FIFOScheduler
from rich.console import Console

from trainables.errors import ConfigError, TuneAppError
from tune_app.baseline import BaselineInfo, make_baseline, read_baseline
from tune_app.errors import ClusterUnavailable, SearchAborted
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.lease import Lease
from tune_app.ledger import Assignment, Ledger, Params, TrialRecord, in_full, latest
from tune_app.live import LiveView, Status
from tune_app.point_keys import config_key, shared_start, steps_of
from tune_app.proposer import Proposer
from tune_app.repeats import wants_repeats
from tune_app.screen import open_screen
from tune_app.searcher import LedgerSearch
from tune_app.session import first_line, fits_in_cluster, ray_session
from tune_app.signals import StopSignal
from tune_app.tables import write_tables
from tune_app.trainable import assignments, lost_record, trial_name
from tune_app.warm_start import compare, take_over
from tune_app.worker import TrialWorker

TABLES_EVERY_S = 5.0
TABLES_SHARE = 0.05
"""Of the driver's time, at most, goes into rewriting the tables while a search runs."""
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
        with ray_session(spec) as stop:
            return _prepare(spec, view, stop)[0]


def run_search(
    spec: ExperimentSpec,
    *,
    warm_start: ExperimentFolder | None = None,
    console: Console | None = None,
    worker: type[TrialWorker] = TrialWorker,
) -> Outcome:
    """Runs what is left of the budget, first taking over what another experiment found out.

    `worker` runs the trials and writes their records.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on where this one stopped.
    """
    folder = ExperimentFolder(spec.folder)
    status = Status(spec)
    console = console or Console(stderr=True)
    with _experiment(spec, folder, console) as lease, _view(status, folder, console) as view:
        records, damaged = Ledger(folder.trials).read()
        Ledger(folder.trials).quarantine(damaged)
        names = [d.path.name for d in damaged]
        known = read_baseline(folder)
        spent = in_full(latest(records)) >= spec.budget.trials and not wants_repeats(latest(records), spec)
        if known is not None and spent:  # nothing to do needs no cluster
            write_tables(folder, latest(records), spec, reference=known.reference(spec))
            _refuse_empty(latest(records), spec)
            return Outcome(folder, known, latest(records), 0, names, f"{spec.budget.trials} trials")
        with ray_session(spec) as stop:
            baseline, data = _prepare(spec, view, stop)
            proposer = _replay(spec, folder, baseline, lease.in_flight(), warm_start, view)
            before = len(proposer.records)
            driver = _Driver(spec, folder, lease, proposer, baseline, status, view, stop, worker)
            started = time.monotonic()
            try:
                driver.fit(data)
            finally:
                driver.tables.write()
            seconds = time.monotonic() - started
        lease.save_in_flight([])
    _refuse_empty(proposer.records, spec)
    why = proposer.done or "every point of the space"
    return Outcome(folder, baseline, proposer.records, len(proposer.records) - before, names, why, seconds)


def _replay(
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    baseline: BaselineInfo,
    in_flight: list[Assignment],
    warm_start: ExperimentFolder | None,
    view: LiveView,
) -> Proposer:
    """A proposer that knows every record, of this experiment and of the one that it starts from."""

    def key_of(params: Params, repeat: int = 0) -> str:
        return config_key(spec, baseline.fingerprint, params, repeat=repeat)

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
    )


class _Tables:
    """Writes the parquet files, at most every few seconds unless asked."""

    def __init__(
        self, folder: ExperimentFolder, spec: ExperimentSpec, baseline: BaselineInfo, lease: Lease, proposer: Proposer
    ) -> None:
        self._written, self._took = time.monotonic(), 0.0
        self._lease = lease
        self._write: Callable[[], None] = lambda: write_tables(
            folder, proposer.records, spec, reference=baseline.reference(spec)
        )

    def maybe_write(self) -> None:
        """After a change."""
        if time.monotonic() - self._written >= max(TABLES_EVERY_S, self._took / TABLES_SHARE):
            self.write()

    def write(self) -> None:
        """Now; only the holder of the lease rewrites."""
        self._lease.check()
        started = time.monotonic()
        self._write()
        self._written = time.monotonic()
        self._took = self._written - started


class _Driver:
    """Lets Tune drive a proposer until the budget is spent."""

    def __init__(
        self,
        spec: ExperimentSpec,
        folder: ExperimentFolder,
        lease: Lease,
        proposer: Proposer,
        baseline: BaselineInfo,
        status: Status,
        view: LiveView,
        stop: StopSignal,
        worker: type[TrialWorker],
    ) -> None:
        self.tables = _Tables(folder, spec, baseline, lease, proposer)
        self._spec, self._folder, self._proposer, self._stop = spec, folder, proposer, stop
        self._status, self._view, self._worker = status, view, worker
        status.records, status.resumed = proposer.records, in_full(proposer.records)
        status.reference, status.started = baseline.reference(spec), time.monotonic()
        self._search = LedgerSearch(
            proposer,
            Ledger(folder.trials),
            lease,
            worker_retries=spec.worker_retries,
            batch=1 if spec.fidelity is None else spec.fidelity.batch,
            batch_of=lambda work: shared_start(spec, baseline.fingerprint, work),
            on_change=self._changed,
            lost=self._lost,
        )

    def fit(self, data: Any) -> None:
        """Runs; `data` is the reference of the data set in Ray's object store."""
        spec, scratch = self._spec, self._folder.path / "ray"
        parallel = spec.max_concurrent_trials or fits_in_cluster(spec)
        self._view.phase(f"searching: {spec.budget.trials} trials, {parallel} at a time")
        shutil.rmtree(scratch, ignore_errors=True)
        trial = tune.with_parameters(self._worker, spec_json=spec.model_dump_json(), data=[data])
        tuner = _tuner(spec, trial, self._search, self._stop, parallel=parallel, scratch=scratch)
        try:
            tuner.fit()
        except RayError as err:
            raise self._search.error or ClusterUnavailable(
                f"Ray stopped answering: {first_line(err)}. Run again to go on."
            ) from err
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if self._search.error is not None:
            raise self._search.error

    def _changed(self, record: TrialRecord | None) -> None:
        self._status.records, self._status.running = self._proposer.records, len(self._proposer.running)
        if record is not None:
            self._view.finished(record)
            self.tables.maybe_write()

    def _lost(self, work: Assignment) -> TrialRecord:
        self._folder.probe()  # a storage that went away is not the worker's fault
        return lost_record(work, self._spec.worker_retries)


def _tuner(
    spec: ExperimentSpec, trial: Any, search: LedgerSearch, stop: StopSignal, *, parallel: int, scratch: Path
) -> tune.Tuner:
    """Tune with our searcher; what it writes into `scratch` is never read."""
    return tune.Tuner(
        tune.with_resources(trial, {"cpu": spec.resources.cpu, "gpu": spec.resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_KeepsStartingWorkers(),
            num_samples=-1,
            max_concurrent_trials=parallel,
            reuse_actors=True,
            trial_name_creator=lambda t: trial_name(t.config),
            trial_dirname_creator=lambda t: assignments(t.config)[0].trial_id,
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=str(scratch),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_StopBetweenSteps(stop)],
            verbose=0,
        ),
    )


def _prepare(spec: ExperimentSpec, view: LiveView, stop: StopSignal) -> tuple[BaselineInfo, Any]:
    """Loads the data once and makes the baseline, in a worker; returns the data's object reference."""
    known = read_baseline(ExperimentFolder(spec.folder)) is not None
    view.phase("loading data" if known else "loading data, making the baseline")
    share = spec.resources
    task = ray.remote(num_returns=2, num_cpus=share.cpu, num_gpus=share.gpu)(_prepare_in_worker)
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


def _prepare_in_worker(spec_json: str) -> tuple[Any, BaselineInfo]:
    from trainables.data import load_data

    spec = ExperimentSpec.model_validate_json(spec_json)
    data = load_data(spec.base.data)
    return data, make_baseline(spec, data)


def _refuse_empty(records: list[TrialRecord], spec: ExperimentSpec) -> None:
    if any(r.state == "complete" for r in records) or not records:
        return
    reason, count = Counter(r.reason for r in records).most_common(1)[0]
    raise SearchAborted(f"none of {len(records)} trials of {spec.name!r} completed; {count} ended with: {reason}")


@contextlib.contextmanager
def _experiment(spec: ExperimentSpec, folder: ExperimentFolder, console: Console) -> Iterator[Lease]:
    """The lease on a claimed experiment. Input that is refused before anything finished leaves no folder behind."""
    existed = folder.path.exists()
    try:
        with Lease(folder) as lease:
            changed = folder.claim(spec)
            if changed:
                console.print(f"changed since the last run: {'; '.join(changed)}", highlight=False, soft_wrap=True)
            yield lease
    except ConfigError:
        if not existed and read_baseline(folder) is None:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


@contextlib.contextmanager
def _view(status: Status, folder: ExperimentFolder, console: Console | None) -> Iterator[LiveView]:
    with LiveView(status, console=console, progress=folder.stages / "progress") as view:
        yield view


class _KeepsStartingWorkers(FIFOScheduler):  # type: ignore[misc]
    """Trials in their order, each on a free worker or on one that starts for it.

    Ray's own would hand every freed worker to the oldest waiting trial and give up the one that starts for it, over
    and over: trials that are shorter than the start of a worker then all run on the first one.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Nothing out of turn: the newest trial takes the freed worker."""
        return None


class _StopBetweenSteps(tune.Callback):  # type: ignore[misc]
    """Lets a stop signal end Tune's loop between two steps."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises Interrupted when a signal has come."""
        self._stop.check()
