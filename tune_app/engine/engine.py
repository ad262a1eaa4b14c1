"""Engine: where the trials of a search run."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tune_app.engine.live_view import LiveView, Status
from tune_app.findings.at_chance import collapse_notice, has_collapsed
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import write_tables


@dataclass(frozen=True)
class Search:
    """A search that is ready: its lease is held, its baseline made, its records are known to the proposer."""

    spec: ExperimentSpec
    folder: ExperimentFolder
    lease: Lease
    proposer: Proposer
    baseline: BaselineInfo
    status: Status
    view: LiveView

    def finished(self, record: TrialRecord) -> None:
        """Shows a trial that the proposer was told of, and says once if nothing is usable so far."""
        self.view.finished(record)
        notice = collapse_notice(self.proposer.records, self.baseline) if has_collapsed(record) else ""
        if notice:
            self.view.notice(notice)

    def write_tables(self) -> None:
        """Of all records so far.

        Raises:
            LeaseHeld: another driver has taken over.
        """
        self.lease.check()  # only its holder rewrites
        write_tables(self.folder, self.proposer.records, self.spec, reference=self.baseline.reference(self.spec))


class Engine(Protocol):
    """Runs trials: `session` first, inside it `prepare`, then `run`."""

    def session(self) -> AbstractContextManager[None]:
        """What is started here ends with it."""

    def prepare(self, spec: ExperimentSpec, view: LiveView) -> tuple[BaselineInfo, Any]:
        """The baseline, made or found, and the data set in the form in which `run` wants it.

        Raises:
            TuneAppError: a search cannot run here, or there is no baseline.
            Interrupted: a stop signal has come.
        """

    def run(self, search: Search, data: Any) -> None:
        """Runs what the proposer proposes until it has nothing more, and writes the tables, also of a part.

        Raises:
            TuneAppError: what ended the search before.
            Interrupted: a stop signal has come.
        """
