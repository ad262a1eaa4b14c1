"""Stock: what a run finds in its experiment's folder before it starts, and what is there when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Damaged, Ledger, TrialRecord, latest
from tune_app.ledger.versions import may_differ, refuse_other_versions
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import ledger_state, recall, settle
from tune_app.tables.totals import Totals, totals_of
from tune_app.tables.trials import rows_without_record


@dataclass(frozen=True)
class Stock:
    """What a run found in its experiment's folder."""

    recalled: Totals | None
    """What the last run remembered, if nothing was touched since; then no record was read."""
    records: list[TrialRecord] = field(default_factory=list)
    """The newest of each configuration and rung, if they were read."""
    seen: str | None = None
    """The state of the ledger from before it was read, if all of it was whole."""
    quarantined: list[str] = field(default_factory=list)
    """The names of damaged records' files, which are out of the way now."""
    removed: list[str] = field(default_factory=list)
    """The labels of trials of which there is a row in the table and no record."""

    def totals(self, spec: ExperimentSpec, baseline: BaselineInfo) -> Totals:
        """Returns the totals of all records."""
        return self.recalled or totals_of(self.records, spec, baseline.reference(spec))


def take_stock(folder: ExperimentFolder, spec: ExperimentSpec) -> Stock:
    """Finds out what an experiment holds, and puts damaged records out of the way.

    Raises:
        ConfigError: a result is of other versions of plug-ins than are installed.
        CorruptFile: a record is of another version of this package.
        StorageUnavailable: a file cannot be read or moved.
    """
    known = recall(folder)
    if known is not None and not may_differ(known.totals.by_plug_ins):
        return Stock(known.totals)
    ledger, seen = Ledger(folder.trials), ledger_state(folder)
    records, damaged = ledger.read()
    removed = rows_without_record(folder)
    ledger.quarantine(damaged)
    newest = latest(records)
    refuse_other_versions(newest, spec)
    return Stock(None, newest, None if damaged else seen, [file.path.name for file in damaged], removed)


def settle_search(
    lease: Lease, spec: ExperimentSpec, baseline: BaselineInfo, told: Sequence[TrialRecord]
) -> tuple[Totals, list[Damaged]]:
    """Reads the ledger again at the end of a search, and writes the tables of what is there.

    `told` are the records that the search knows of. Returns the totals, and what is in the place of records that are
    not there any more.

    Raises:
        LeaseHeld: another driver has taken over.
        CorruptFile: a test result or the baseline is not what was written.
        StorageUnavailable: the folder cannot be read or written.
    """
    folder, seen = lease.folder, ledger_state(lease.folder)
    records, damaged = Ledger(folder.trials).read()
    known, harmed = {record.assignment.trial_id for record in records}, {file.path.stem for file in damaged}
    gone = [name for record in told if (name := record.assignment.trial_id) not in known | harmed]
    damaged += [Damaged(folder.trials / f"{name}.json", f"{name}.json: removed") for name in gone]
    newest, reference = latest(records), baseline.reference(spec)
    totals = totals_of(newest, spec, reference)
    settle(lease, newest, spec, totals, reference=reference, seen=None if damaged else seen)
    return totals, damaged
