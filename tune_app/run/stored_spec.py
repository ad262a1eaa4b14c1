"""The spec that an experiment keeps: claimed for a run, and written again where it was damaged."""

from trainables.config import stage_keys
from trainables.errors import CorruptFile, TuneAppError
from trainables.results import Completed
from trainables.storage import read_many, replace
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import DamagedSpec, ExperimentFolder, stored_text
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.search.keys import config_key
from tune_app.spec.experiment import ExperimentSpec


def claim(lease: Lease, spec: ExperimentSpec) -> list[str]:
    """Makes a spec the stored one of an experiment whose lease is held.

    It is compared as `ExperimentFolder.claim` does it, and is also stored where the stored one cannot be read any more:
    then the stages of every complete record, and the baseline, must be those of the given spec. A driver that slept
    before it wrote, and was taken over, puts back the spec of the newest one.

    Returns:
        What changed, such as "budget.trials: 18 → 30", or that the spec was damaged.

    Raises:
        ConfigError: a field that decides what the records mean differs.
        CorruptFile: the stored spec is damaged, and the given one is not known to be that of the records; or it is
            whole, and of another version.
        LeaseHeld: another driver has taken over.
        StorageUnavailable: the folder cannot be read or written.
    """
    folder, text = lease.folder, stored_text(spec)
    [before] = read_many([folder.spec_file])
    changed = _claim(folder, spec)
    lease.save_spec(text)
    if not folder.holds(spec):  # one that slept has just put back what it knew of
        folder.store_spec(spec)
    if not lease.is_held:
        _put_back(lease, before if isinstance(before, bytes) else text)
    lease.check()
    return changed


def _put_back(lease: Lease, before: bytes) -> None:
    """Writes the spec of the newest driver, or else what was there before, until that is the same afterwards."""
    written: bytes | None = None
    while (newest := lease.newer_spec() or before) != written:
        replace(lease.folder.spec_file, newest)
        written = newest


def _claim(folder: ExperimentFolder, spec: ExperimentSpec) -> list[str]:
    try:
        return folder.claim(spec)
    except DamagedSpec as damage:
        doubt = _doubt(folder, spec)
        if doubt:
            raise CorruptFile(
                f"{folder.spec_file} is damaged, and {doubt}: run the spec that this experiment was started with, or "
                "give this one another name."
            ) from damage
        folder.store_spec(spec)
        return [f"{folder.spec_file} was damaged, and is written again: the given spec fits every record"]


def _doubt(folder: ExperimentFolder, spec: ExperimentSpec) -> str:
    """Returns why a spec may not be that of the results that are there; empty: it is."""
    baseline, records = read_baseline(folder), Ledger(folder.trials).read()[0]
    if baseline is None:
        return f"{folder.baseline_file}, by which a spec is known, is gone" if records else ""
    if stage_keys(spec.base, fingerprint=baseline.fingerprint)[0] != baseline.key:
        return "the given spec is not that of its baseline"
    complete = (record for record in records if isinstance(record.result, Completed))
    others = (record for record in complete if not _fits(record, spec, baseline.fingerprint))
    return next((f"the given spec is not that of its trial {record.assignment.label}" for record in others), "")


def _fits(record: TrialRecord, spec: ExperimentSpec, fingerprint: str) -> bool:
    """Whether a record's point is the same configuration in this spec, and has the same stages at its rung."""
    work, made = record.assignment, [run.key for run in record.result.stages]
    try:
        stages = stage_keys(spec.trial(work.params, work.rung, repeat=work.repeat), fingerprint=fingerprint)
        return made == stages and config_key(spec, fingerprint, work.params, repeat=work.repeat) == work.config_key
    except (TuneAppError, KeyError):  # the spec knows no such parameter or rung
        return False
