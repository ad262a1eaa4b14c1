"""Driver: lets Ray Tune run what a proposer proposes, until the budget is spent."""

import contextlib
import gc
import tempfile
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import first_line
from trainables.errors import StorageUnavailable, TuneAppError
from tune_app.engine.engine import ReadySearch
from tune_app.engine.stop_signal import StopSignal
from tune_app.engine.throttle import Throttle
from tune_app.errors import ClusterUnavailable
from tune_app.on_ray.gauges import Gauges
from tune_app.on_ray.heartbeat import Heartbeat, end_process, forget_heartbeats
from tune_app.on_ray.hung_trials import HungTrials
from tune_app.on_ray.searcher import LedgerSearch
from tune_app.on_ray.session import fits_in_cluster, head_answers
from tune_app.on_ray.task_names import NamesTasks
from tune_app.on_ray.worker import TrialWorker
from tune_app.spec.experiment import ExperimentSpec

SAVE_EVERY_S, SAVE_MOST_S = 0.25, 5.0
SAVE_SHARE = 0.1
"""How soon after its start a trial is remembered as running; where a save takes long, SAVE_MOST_S later at most.

What a driver that dies has not saved is proposed anew and not lost: more often costs requests, more rarely such trials.
"""
GAUGES_EVERY_S = 2.0
GAUGES_SHARE = 0.01
"""The driver's time that goes at most into counting all records for the gauges; Prometheus asks more rarely."""
COPY_S = 60.0
"""How long the driver waits for its copy of the data set; the search goes on without it."""
LOOK_EVERY_S = 5.0
LOOK_SHARE = 0.1
"""Seconds between two looks at what running trials show, or at the nodes, and the driver's time that these may take.

The shortest deadline is `epoch_deadline.least_s`, 300 s by default: a look is late by a small part of it.
"""


class Driver:
    """Lets Tune drive a proposer until the budget is spent."""

    def __init__(self, search: ReadySearch, stop: StopSignal, worker: type[TrialWorker]) -> None:
        self._search, self._stop, self._worker = search, stop, worker
        self._saver = Throttle(
            self._save_in_flight, every_s=SAVE_EVERY_S, share=SAVE_SHARE, waits=False, most_s=SAVE_MOST_S
        )
        self._saved: list[str] | None = None
        gauges = Gauges(search.view.status)
        self._gauges = Throttle(gauges.show, every_s=GAUGES_EVERY_S, share=GAUGES_SHARE, waits=False)
        least_s = search.spec.epoch_deadline.least_s
        hung, every_s = HungTrials(search, end=_end), min(LOOK_EVERY_S, least_s / 4)
        self._hung = Throttle(hung.look, every_s=every_s, share=LOOK_SHARE, waits=True, most_s=least_s)
        self._room = Throttle(self._count_room, every_s=LOOK_EVERY_S, share=LOOK_SHARE, waits=True)
        self._searcher = LedgerSearch(search)

    def fit(self, data: Any) -> None:
        """Runs the search; `data` is the reference of the data set in Ray's object store."""
        spec = self._search.spec
        parallel = spec.max_concurrent_trials or fits_in_cluster(spec)
        # A copy beside the driver outlives the node that loaded it. Loading it again would need a CPU, and in a full
        # cluster all of them are held by trials that wait for it.
        ray.wait([data], timeout=COPY_S, fetch_local=True)
        self._search.begin(f"{parallel} at a time")
        forget_heartbeats(self._search.folder)
        gc.freeze()  # what is loaded by now stays: looking through it for garbage would take longer than a trial's turn
        trial = tune.with_parameters(self._worker, spec_json=spec.model_dump_json(), data=[data])
        try:
            with tempfile.TemporaryDirectory(prefix="tune-app-", ignore_cleanup_errors=True) as scratch:
                _tuner(spec, trial, self._searcher, _EachStep(self._step), parallel=parallel, scratch=scratch).fit()
        except RayError as err:
            raise self._searcher.error or ClusterUnavailable(
                f"Ray stopped answering: {first_line(err)}. Run again to go on."
            ) from err
        finally:
            gc.unfreeze()  # compiled packages complain of what is not collected when the process ends
            with contextlib.suppress(TuneAppError):  # what ended the search says more
                self._save_in_flight()
            self._gauges.now()
        if self._searcher.error is not None:
            raise self._searcher.error

    def _step(self) -> None:
        self._stop.check()
        try:
            self._saver.maybe()
            self._hung.maybe()
        except StorageUnavailable as err:  # nothing new starts; what runs may finish
            self._searcher.error = self._searcher.error or err
        self._gauges.maybe()
        if self._search.spec.max_concurrent_trials is None:
            self._room.maybe()

    def _count_room(self) -> None:
        """Lets as many trials run as the nodes hold that are there now."""
        if head_answers():  # Ray would wait for one that does not
            self._searcher.at_once = fits_in_cluster(self._search.spec)

    def _save_in_flight(self) -> None:
        pending = self._search.proposer.pending
        names = [work.trial_id for work in pending]
        if names != self._saved:
            self._search.lease.check()  # only its holder writes
            self._search.lease.save_in_flight(pending)
            self._saved = names


def _end(beat: Heartbeat) -> None:
    """Kills a trial's process where it is; nobody waits for that."""
    where = NodeAffinitySchedulingStrategy(beat.node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=where)(end_process)
    task.options(name="ending a process that hangs").remote(beat)


class _KeepsStartingWorkers(FIFOScheduler):  # type: ignore[misc]
    """A scheduler that runs trials in their order, each on a free worker or on one that starts for it.

    Ray's own would hand every freed worker to the oldest waiting trial and give up the one that starts for it, over
    and over: trials that are shorter than the start of a worker then all run on the first one.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Lets no trial out of turn: the newest one takes the freed worker."""
        return None


class _EachStep(tune.Callback):  # type: ignore[misc]
    """Calls a function between two steps of Tune's loop."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Calls the function; an exception in it ends the loop."""
        self._call()

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles its callbacks into a file that nobody reads."""
        return {}


def _tuner(
    spec: ExperimentSpec, trial: Any, search: LedgerSearch, each_step: _EachStep, *, parallel: int, scratch: str
) -> tune.Tuner:
    """Returns Tune with our searcher; what it writes into `scratch` is never read."""
    cpu = spec.resources.cpu

    def share(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        gpu = {"GPU": config["gpu_share"]} if config["gpu_share"] else {}
        return tune.PlacementGroupFactory([{"CPU": cpu, **gpu}])

    worker = tune.with_resources(trial, share)
    # What Ray's dashboard calls actors; Tune's wrapper has a name of its own.
    worker.__qualname__ = TrialWorker.__name__
    return tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_KeepsStartingWorkers(),
            num_samples=-1,
            max_concurrent_trials=parallel,
            reuse_actors=True,
            trial_name_creator=lambda t: t.config["name"],
            trial_dirname_creator=lambda t: t.config["folder"],
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=scratch,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[each_step, NamesTasks()],
            verbose=0,
        ),
    )
