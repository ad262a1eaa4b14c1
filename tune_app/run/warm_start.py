"""Warm start: what another experiment found out. Its results where they mean the same here, else advice."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.errors import ConfigError, CorruptFile
from trainables.results import Completed
from trainables.storage import DRAFT, names, publish_folder, read_many, remove_folder, sha256
from tune_app.frontier.objectives import judged
from tune_app.ledger.folder import PACKED, ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord, latest
from tune_app.ledger.reading import made_again_by
from tune_app.ledger.test_results import NAME as TEST_RESULT
from tune_app.search.strategy import KeyOf
from tune_app.spec.experiment import ExperimentSpec


@dataclass(frozen=True)
class WarmStart:
    """Records of another experiment, sorted by what they are worth here."""

    results: list[TrialRecord]
    """Of configurations that are the same here, to the last byte of the data: they need not run again."""
    advice: list[TrialRecord]
    """Of points of this space on another base: samplers learn from them, budgets and frontier do not."""


def compare(records: Sequence[TrialRecord], other: ExperimentSpec, spec: ExperimentSpec, key_of: KeyOf) -> WarmStart:
    """Sorts the newest records of another experiment; those of no use (other parameters, other rungs, an objective or
    a bounded column that was not measured, a fault of a machine or a program) fall out.
    """
    same_rungs = {name for name, rung in spec.rungs.items() if name in other.rungs and other.rungs[name] == rung}
    results, advice = [], []
    for record in latest(records):
        work = record.assignment
        if work.rung not in same_rungs or not spec.has_point(work.params):
            continue
        has_all = bool(judged(record, spec))
        if key_of(work.params, work.repeat) == work.config_key:
            results += [record] if has_all or record.state == "invalid" else []
        elif work.repeat == 0 and has_all:
            advice.append(record)
    return WarmStart(results, advice)


def take_over(results: Sequence[TrialRecord], other: ExperimentFolder, folder: ExperimentFolder) -> int:
    """Copies results into an experiment, each with its packed file first; returns how many were new.

    Raises:
        ConfigError: a packed file of the other experiment is missing.
        CorruptFile: one is not the file that was measured.
        StorageUnavailable: the folder cannot be written.
    """
    ledger, taken = Ledger(folder.trials), 0
    there = [record.assignment for record in ledger.read()[0]]
    known, number = {work.place for work in there}, max((work.number for work in there), default=-1) + 1
    for record in results:
        work = record.assignment
        if work.place in known:
            continue
        if isinstance(record.result, Completed):
            _copy_artifact(record, record.result.artifact_sha256, other, folder)
        renumbered = work.model_copy(update={"number": number})
        origin = record.taken_from or other.path.name
        taken += ledger.add(record.model_copy(update={"assignment": renumbered, "taken_from": origin}))
        number += 1
    return taken


def _copy_artifact(record: TrialRecord, expected: str, other: ExperimentFolder, folder: ExperimentFolder) -> None:
    trial_id, label = record.assignment.trial_id, record.assignment.label
    source, target = other.artifacts / trial_id, folder.artifacts / trial_id
    # What the other search found on its test images is its own: here they may be others.
    found = [name for name in names(source, "*") if not name.startswith(DRAFT) and name != TEST_RESULT]
    contents = zip(found, read_many(source / name for name in found), strict=True)
    files = {name: content for name, content in contents if isinstance(content, bytes)}
    if PACKED not in files:
        raise ConfigError(f"{source / PACKED} is missing: its record names it. Start without {other.path.name}.")
    if sha256(files[PACKED]) != expected:
        way_out = made_again_by(other, label)
        raise CorruptFile(f"{source / PACKED} is not the file that was measured (SHA-256 differs): {way_out}.")
    if not publish_folder(files, target, marker=PACKED):  # left by an attempt that was cut off
        remove_folder(target, markers=[PACKED])
        publish_folder(files, target, marker=PACKED)
