"""Engine: where the trials of a search run."""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from tune_app.engine.live_view import LiveView
from tune_app.engine.throttle import Throttle
from tune_app.findings.at_chance import collapse_notice
from tune_app.findings.of_baseline import findings_of_baseline
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import write_tables
from tune_app.terminal.quantities import show_count
from tune_app.terminal.shell import from_here, watch_command

TABLES_EVERY_S = 5.0
TABLES_SHARE = 0.02
"""The pause between two rewrites of the tables, and the share of the time that these take at most.

Shorter: who looks at the tables sees a trial sooner; longer: a large experiment spends less on files that change again.
"""


@dataclass
class ReadySearch:
    """A search that is ready: its lease is held, its baseline made, its records are known to the proposer."""

    spec: ExperimentSpec
    folder: ExperimentFolder
    lease: Lease
    proposer: Proposer
    baseline: BaselineInfo
    view: LiveView
    tables: Throttle = field(init=False)
    """Rewrites the tables."""

    def __post_init__(self) -> None:
        self.tables = Throttle(self._write_tables, every_s=TABLES_EVERY_S, share=TABLES_SHARE, waits=True)

    def begin(self, how: str) -> None:
        """Shows that trials start from here, and how they run."""
        self.refresh()
        status = self.view.status
        status.resumed, status.started = status.done, time.monotonic()
        status.reference = self.baseline.reference(self.spec)
        for finding in findings_of_baseline(self.baseline):
            self.view.notice(finding.text)
        self.view.phase(f"searching: {show_count(self.spec.budget.trials, 'trial')}, {how}")
        self.view.log(f"live report: {watch_command(from_here(self.folder.path))}")

    def refresh(self) -> None:
        """Brings the status up to what the proposer knows."""
        status = self.view.status
        status.records, status.done = self.proposer.records, self.proposer.spent.trials
        status.running, status.outlook = len(self.proposer.running), self.proposer.outlook

    def tell(self, record: TrialRecord) -> None:
        """Tells the proposer of a finished trial, shows it, and rewrites the tables where it is time.

        Raises:
            LeaseHeld: another driver has taken over.
        """
        self.proposer.tell(record)
        self.refresh()
        self.finished(record)
        self.tables.maybe()

    def finished(self, record: TrialRecord) -> None:
        """Shows a trial that the proposer was told of, and says once if nothing is usable so far."""
        self.view.finished(record)
        notice = collapse_notice(self.proposer.records, self.baseline) if record.is_at_chance else ""
        if notice:
            self.view.notice(notice)

    def _write_tables(self) -> None:
        write_tables(self.lease, self.proposer.records, self.spec, reference=self.baseline.reference(self.spec))


class Engine(Protocol):
    """Runs trials: `session` first, inside it `prepare`, then `run`."""

    def session(self, spec: ExperimentSpec) -> AbstractContextManager[object]:
        """Returns a context; what is started in it ends with it."""

    def prepare(self, spec: ExperimentSpec, view: LiveView) -> tuple[BaselineInfo, Any]:
        """Returns the baseline, made or found, and the data set in the form in which `run` wants it.

        Raises:
            TuneAppError: a search cannot run here, or there is no baseline.
            Interrupted: a stop signal has come.
        """

    def run(self, search: ReadySearch, data: Any) -> None:
        """Runs what the proposer proposes until it has nothing more; the last tables are its caller's.

        Raises:
            TuneAppError: what ended the search before.
            Interrupted: a stop signal has come.
        """
