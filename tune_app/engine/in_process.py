"""InProcess: trials one after the other in this process, without Ray: for a debugger, or where Ray is not installed."""

import contextlib
from collections.abc import Iterator
from typing import Any

from trainables.errors import OutOfMemory
from trainables.storage import remove_tree, replace_json
from tune_app.engine.baseline import prepare
from tune_app.engine.engine import ReadySearch
from tune_app.engine.live_view import LiveView
from tune_app.engine.preflight import checks, refuse, report_node
from tune_app.engine.stop_signal import StopSignal
from tune_app.engine.trial import Grant, run_trial, unfinished_record, workplace_of
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.spec.experiment import ExperimentSpec


class InProcess:
    """The engine in this process: each trial has a whole GPU and `resources.cpu` threads.

    A trial that ends the process is not noted as failed.
    """

    @contextlib.contextmanager
    def session(self, spec: ExperimentSpec) -> Iterator[None]:
        """Returns a context in which a stop signal ends what runs where it is: an epoch that was saved is not lost.

        Afterwards torch is as whoever runs a search in a program of their own has set it.
        """
        with StopSignal(at_once=True):
            from trainables.device import as_found

            with as_found():
                yield

    def prepare(self, spec: ExperimentSpec, view: LiveView) -> tuple[BaselineInfo, Any]:
        """Loads the data and makes the baseline here."""
        from trainables.device import resources_here

        here = report_node(spec, "").model_copy(update={"same_storage": True})  # one machine has nothing to compare
        resources = resources_here()
        refuse(checks(spec, here, [here], live=[resources]))
        with view.making_baseline():
            return prepare(spec, cores=resources["CPU"], gpu=_whole_gpu(spec))

    def run(self, search: ReadySearch, data: Any) -> None:
        """Runs one trial after the other."""
        spec, folder = search.spec, search.folder
        gpu = _whole_gpu(spec)
        place = workplace_of(spec, data, gpu=gpu)
        search.begin("one at a time in this process")
        while True:
            work = search.proposer.next()
            search.lease.check()
            remove_tree(folder.heartbeats)  # of the one before, or of an earlier driver's
            if work is None:
                return
            search.lease.save_in_flight(search.proposer.pending)
            replace_json(folder.heartbeat(work.trial_id), {}, durable=False)  # it runs, and no other that waits
            search.tell(run(work, spec, folder, place, Grant(gpu)))


def _whole_gpu(spec: ExperimentSpec) -> float:
    return 1.0 if spec.resources.gpu_at_first else 0.0


def run(work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, place: Any, grant: Grant) -> TrialRecord:
    """Returns the record of a trial, also when memory ran out: no larger share of it is left to try."""
    try:
        return run_trial(work, spec, folder, place, grant)
    except OutOfMemory as err:
        record = unfinished_record(work, err, grant)
        Ledger(folder.trials).add(record)
        return record
