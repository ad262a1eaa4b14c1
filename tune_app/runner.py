"""run_search: start and resume are this one path — lease, baseline, replay, search, tables."""

import contextlib
import logging
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from trainables.errors import ConfigError, TuneAppError
from tune_app.baseline import BaselineInfo, config_key, make_baseline, read_baseline, shared_start
from tune_app.errors import ClusterUnavailable, SearchAborted
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.lease import Lease
from tune_app.ledger import Assignment, Ledger, TrialRecord, in_full, latest
from tune_app.live import LiveView, Status
from tune_app.proposer import Proposer
from tune_app.searcher import LedgerSearch
from tune_app.signals import StopSignal
from tune_app.tables import write_tables
from tune_app.trainable import assignments, lost_record, trial_name, tune_trial

TABLES_EVERY_S = 5.0
POLL_S = 0.3
CONNECT_S = 10.0
# Tune's own files are scratch here: no loggers, no snapshots worth their time, no second handler of Ctrl-C.
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


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


def run_baseline(spec: ExperimentSpec, *, console: Console | None = None) -> BaselineInfo:
    """Makes the experiment's baseline, or finds it.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on from the last epoch.
    """
    folder = ExperimentFolder(spec.folder)
    status = Status(spec)
    with _experiment(spec, folder), _view(status, folder, console) as view:
        known = read_baseline(folder)
        if known is not None:
            return known
        with _ray_session(spec) as stop:
            return _prepare(spec, view, stop)[0]


def run_search(spec: ExperimentSpec, *, console: Console | None = None) -> Outcome:
    """Runs what is left of the budget.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on where this one stopped.
    """
    folder = ExperimentFolder(spec.folder)
    ledger = Ledger(folder.trials)
    status = Status(spec)
    with _experiment(spec, folder) as lease, _view(status, folder, console) as view:
        records, damaged = ledger.read()
        ledger.quarantine(damaged)
        known = read_baseline(folder)
        if known is not None and in_full(latest(records)) >= spec.budget.trials:  # nothing to do needs no cluster
            write_tables(folder, latest(records), spec, reference=known.reference())
            _refuse_empty(latest(records), spec)
            return Outcome(
                folder, known, latest(records), 0, [d.path.name for d in damaged], f"{spec.budget.trials} trials"
            )
        with _ray_session(spec) as stop:
            baseline, data = _prepare(spec, view, stop)
            proposer = Proposer(
                spec,
                key_of=lambda params: config_key(spec, baseline.fingerprint, params),
                reference=baseline.reference(),
                records=records,
                in_flight=lease.in_flight(),
            )
            status.records, status.resumed = proposer.records, in_full(proposer.records)
            status.reference, status.started = baseline.reference(), time.monotonic()
            tables = _Tables(folder, spec, baseline, lease, proposer)
            try:
                _fit(spec, folder, ledger, lease, proposer, data, baseline.fingerprint, status, view, tables, stop)
            finally:
                tables.write()
        lease.save_in_flight([])
    _refuse_empty(proposer.records, spec)
    return Outcome(
        folder=folder,
        baseline=baseline,
        records=proposer.records,
        new=len(proposer.records) - len(latest(records)),
        quarantined=[d.path.name for d in damaged],
        why=proposer.done or "every point of the space",
    )


class _Tables:
    """Writes the parquet files, at most every few seconds unless asked."""

    def __init__(
        self, folder: ExperimentFolder, spec: ExperimentSpec, baseline: BaselineInfo, lease: Lease, proposer: Proposer
    ) -> None:
        self._written = time.monotonic()
        self._lease = lease
        self._write: Callable[[], None] = lambda: write_tables(
            folder, proposer.records, spec, reference=baseline.reference()
        )

    def maybe_write(self) -> None:
        """After a change."""
        if time.monotonic() - self._written >= TABLES_EVERY_S:
            self.write()

    def write(self) -> None:
        """Now; only the holder of the lease rewrites."""
        self._lease.check()
        self._write()
        self._written = time.monotonic()


def _fit(
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    ledger: Ledger,
    lease: Lease,
    proposer: Proposer,
    data: Any,
    fingerprint: str,
    status: Status,
    view: LiveView,
    tables: _Tables,
    stop: StopSignal,
) -> None:
    """Lets Tune drive the proposer until the budget is spent."""

    def changed(record: TrialRecord | None) -> None:
        status.records, status.running = proposer.records, len(proposer.running)
        if record is not None:
            view.finished(record)
            tables.maybe_write()

    def lost(work: Assignment) -> TrialRecord:
        folder.probe()  # a storage that went away is not the worker's fault
        return lost_record(work, spec.worker_retries)

    search = LedgerSearch(
        proposer,
        ledger,
        lease,
        worker_retries=spec.worker_retries,
        batch=1 if spec.fidelity is None else spec.fidelity.batch,
        batch_of=lambda work: shared_start(spec, fingerprint, work),
        on_change=changed,
        lost=lost,
    )
    parallel = spec.max_concurrent_trials or _fits_in_cluster(spec)
    view.phase(f"searching: {spec.budget.trials} trials, {parallel} at a time")
    scratch = folder.path / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    tuner = _tuner(spec, search, data, stop, parallel=parallel, scratch=scratch)
    try:
        tuner.fit()
    except RayError as err:
        raise search.error or ClusterUnavailable(
            f"Ray stopped answering: {_first_line(err)}. Run again to go on."
        ) from err
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if search.error is not None:
        raise search.error


def _tuner(
    spec: ExperimentSpec, search: LedgerSearch, data: Any, stop: StopSignal, *, parallel: int, scratch: Path
) -> tune.Tuner:
    """Tune with our searcher; what it writes into `scratch` is never read."""
    trial = tune.with_parameters(tune_trial, spec_json=spec.model_dump_json(), data=[data])
    return tune.Tuner(
        tune.with_resources(trial, {"cpu": spec.resources.cpu, "gpu": spec.resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=-1,
            max_concurrent_trials=parallel,
            reuse_actors=True,
            trial_name_creator=lambda t: trial_name(t.config),
            trial_dirname_creator=lambda t: assignments(t.config)[0].trial_id,
        ),
        run_config=tune.RunConfig(
            name=spec.name, storage_path=str(scratch), verbose=0, callbacks=[_StopBetweenSteps(stop)]
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
        raise ClusterUnavailable(f"the baseline's worker was lost: {_first_line(err)}. Run again to go on.") from err


def _prepare_in_worker(spec_json: str) -> tuple[Any, BaselineInfo]:
    from trainables.data import load_data

    spec = ExperimentSpec.model_validate_json(spec_json)
    data = load_data(spec.base.data)
    return data, make_baseline(spec, data)


def _fits_in_cluster(spec: ExperimentSpec) -> int:
    """How many trials all nodes hold at the same time."""
    share = {"CPU": spec.resources.cpu, "GPU": spec.resources.gpu}
    fits = [
        min(int(node["Resources"].get(kind, 0) / need + 1e-9) for kind, need in share.items() if need > 0)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return max(1, sum(fits))


def _check_resources(spec: ExperimentSpec) -> None:
    """Refuses a trial that no node can hold, instead of waiting for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, need in (("CPU", spec.resources.cpu), ("GPU", spec.resources.gpu)):
        largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if need > largest:
            raise ConfigError(
                f"a trial needs {need:g} {kind}, but the largest node of the cluster has {largest:g}: "
                f"lower resources.{kind.lower()} or join a larger cluster."
            )


def _refuse_empty(records: list[TrialRecord], spec: ExperimentSpec) -> None:
    if any(r.state == "complete" for r in records) or not records:
        return
    reason, count = Counter(r.reason for r in records).most_common(1)[0]
    raise SearchAborted(f"none of {len(records)} trials of {spec.name!r} completed; {count} ended with: {reason}")


@contextlib.contextmanager
def _experiment(spec: ExperimentSpec, folder: ExperimentFolder) -> Iterator[Lease]:
    """The lease on a claimed experiment. Input that is refused before anything finished leaves no folder behind."""
    existed = folder.path.exists()
    try:
        with Lease(folder) as lease:
            folder.claim(spec)
            yield lease
    except ConfigError:
        if not existed and read_baseline(folder) is None:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


@contextlib.contextmanager
def _view(status: Status, folder: ExperimentFolder, console: Console | None) -> Iterator[LiveView]:
    with LiveView(status, console=console, progress=folder.stages / "progress") as view:
        yield view


@contextlib.contextmanager
def _ray_session(spec: ExperimentSpec) -> Iterator[StopSignal]:
    """A connection to the cluster of RAY_ADDRESS, or a Ray of our own that ends with us."""
    os.environ.update({k: v for k, v in TUNE_SETTINGS.items() if k not in os.environ})
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with StopSignal() as stop:
        if ray.is_initialized():
            _check_resources(spec)
            yield stop
            return
        try:
            _connect(os.environ.get("RAY_ADDRESS", ""))
            stop.arm()
            stop.check()
            _check_resources(spec)
            yield stop
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    """Starts a Ray without dashboard, or joins the one at the address, which must answer within CONNECT_S."""
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        own = {} if address else {"include_dashboard": False}
        ray.init(configure_logging=False, log_to_driver=False, **own)
    except (RayError, OSError, OverflowError, RuntimeError) as err:
        raise ClusterUnavailable(
            f"Ray cannot be reached or started ({address or 'on this machine'}): {_first_line(err)}. "
            "Check RAY_ADDRESS, or unset it to start Ray here."
        ) from err


class _StopBetweenSteps(tune.Callback):  # type: ignore[misc]
    """Lets a stop signal end Tune's loop between two steps."""

    def __init__(self, stop: StopSignal) -> None:
        self._stop = stop

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises Interrupted when a signal has come."""
        self._stop.check()


def _first_line(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0]
