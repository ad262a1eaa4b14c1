"""InProcess: trials one after the other in this process, without Ray: for a debugger, or where Ray is not installed."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from trainables.errors import OutOfMemory
from tune_app.engine.baseline import make_baseline
from tune_app.engine.engine import Search
from tune_app.engine.live_view import LiveView
from tune_app.engine.preflight import findings, refuse, report_node
from tune_app.engine.stop_signal import stops_at_once
from tune_app.engine.throttle import Throttle
from tune_app.engine.trial import Grant, run_trial, unfinished_record
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.spec.experiment import ExperimentSpec

TABLES_EVERY_S, TABLES_SHARE = 5.0, 0.02


class InProcess:
    """Whole GPUs and `resources.cpu` threads for each trial; a trial that ends this process is not noted as failed."""

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A stop signal ends what runs where it is: an epoch that was saved is not lost."""
        with stops_at_once():
            yield

    def prepare(self, spec: ExperimentSpec, view: LiveView) -> tuple[BaselineInfo, Any]:
        """Loads the data and makes the baseline here."""
        from trainables.data.data_sets import load_data
        from trainables.device import resources_here

        here = report_node(spec, "").model_copy(update={"same_storage": True})  # one machine has nothing to compare
        refuse(findings(spec, here, [here], live=[resources_here()]))
        view.phase("loading data, making the baseline or finding it")
        data = load_data(spec.base.data)
        return make_baseline(spec, data), data

    def run(self, search: Search, data: Any) -> None:
        """One trial after the other."""
        from trainables.stages.workplace import open_workplace

        spec, folder, share = search.spec, search.folder, search.spec.resources
        gpu = 1.0 if share.gpu_at_first else 0.0
        place = open_workplace(data, folder.stages, cpu=share.cpu, gpu=gpu, compile=share.compile)
        tables = Throttle(search.write_tables, every_s=TABLES_EVERY_S, share=TABLES_SHARE, waits=True)
        search.status.records, search.status.done = search.proposer.records, search.proposer.progress.trials
        search.status.resumed, search.status.started = search.status.done, time.monotonic()
        search.status.reference = search.baseline.reference(spec)
        search.view.phase(f"searching: {spec.budget.trials} trials, one at a time in this process")
        try:
            while (work := search.proposer.next()) is not None:
                search.lease.check()
                search.lease.save_in_flight([work])
                _settle(search, run(work, spec, folder, place, Grant(gpu)))
                tables.maybe()
        finally:
            tables.now()


def run(work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, place: Any, grant: Grant) -> TrialRecord:
    """The record of a trial; no larger share of the memory is left to try."""
    try:
        return run_trial(work, spec, folder, place, grant)
    except OutOfMemory as err:
        record = unfinished_record(work, err, grant)
        Ledger(folder.trials).add(record)
        return record


def _settle(search: Search, record: TrialRecord) -> None:
    search.proposer.tell(record)
    search.status.records, search.status.done = search.proposer.records, search.proposer.progress.trials
    search.finished(record)
