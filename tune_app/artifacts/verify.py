"""Proves from their bytes that packed files still are what the ledger says of them, and that nothing is missing."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.errors import ConfigError, CorruptFile
from trainables.results import Completed
from trainables.storage import StoragePath, read_bytes, sha256
from tune_app.artifacts.cross_check import Problem, cross_check, without_record
from tune_app.artifacts.export import experiment_data
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.folder import ExperimentFolder, differences
from tune_app.ledger.ledger import Damaged, TrialRecord
from tune_app.ledger.reading import find_trial, read_ledger
from tune_app.terminal.progress import doing, note, track
from tune_app.terminal.shell import command

if TYPE_CHECKING:
    from trainables.export.packed import PackedModel
    from trainables.stages.workplace import Workplace


@dataclass(frozen=True)
class Mismatch:
    """One thing that a record says of its packed file, and what is there instead."""

    rule: str
    """`file`, `size_bytes`, `sha256`, `decoding`, `architecture.<field>`, a metric, or `n` images."""
    recorded: object
    """The value of the record, as JSON has it."""
    found: object
    """The value of the file, as JSON has it."""


@dataclass(frozen=True)
class Verdict:
    """What became of a trial's packed file: where it is, and how it differs from its record."""

    record: TrialRecord
    path: StoragePath
    mismatches: tuple[Mismatch, ...]
    accuracy: float | None = None
    """The accuracy as evaluated again; None where it was not."""

    @property
    def label(self) -> str:
        """The label of the trial that was examined."""
        return self.record.assignment.label


@dataclass(frozen=True)
class Verification:
    """What became of the promises of an experiment."""

    folder: ExperimentFolder
    verdicts: list[Verdict]
    damaged: list[Damaged]
    """Records of which nothing can be read."""
    problems: list[Problem]
    """What is missing beside these, or differs between the parts of the experiment."""
    without_record: list[str]
    """The ids of packed files of which there is no record: their trials run, or were cut off. No promise is broken."""

    @property
    def broken(self) -> list[Verdict]:
        """The trials whose file is not as recorded."""
        return [verdict for verdict in self.verdicts if verdict.mismatches]

    @property
    def holds(self) -> bool:
        """Whether everything is as recorded."""
        return not self.broken and not self.damaged and not self.problems

    def way_out(self, verdict: Verdict) -> str:
        """Returns the command that makes the file of a trial again."""
        return command("reproduce", self.folder.path, verdict.label)

    def document(self) -> dict[str, Any]:
        """Returns what `verify --json` prints, as JSON values."""
        return {
            "experiment": str(self.folder.path),
            "holds": self.holds,
            "trials": [self._entry(verdict) for verdict in self.verdicts],
            "damaged_records": [{"path": str(file.path), "problem": file.problem} for file in self.damaged],
            "problems": [{"path": str(found.path), "problem": found.text} for found in self.problems],
            "without_record": self.without_record,
        }

    def _entry(self, verdict: Verdict) -> dict[str, Any]:
        """Returns one trial of the document."""
        metrics = verdict.record.metrics()
        return {
            "label": verdict.label,
            "trial_id": verdict.record.assignment.trial_id,
            "artifact": str(verdict.path),
            "size_bytes": int(metrics["size_bytes"]),
            "accuracy": metrics["accuracy"],
            "accuracy_again": verdict.accuracy,
            "holds": not verdict.mismatches,
            "mismatches": [vars(mismatch) for mismatch in verdict.mismatches],
            "reproduce": self.way_out(verdict),
        }


def verify(
    folder: ExperimentFolder, names: Sequence[str] = (), *, all: bool = False, evaluate: bool = False
) -> Verification:
    """Reads packed files again and compares them with their records; nothing is written.

    A file must have the length and SHA-256 of the record, decode, and be a network of the recorded architecture and
    METRICS. Of a file with other bytes nothing more than its decoding is looked at: the rest would follow from that.
    Unless trials are named, ledger, files and tables are held against each other too (`cross_check`).

    Args:
        folder: the experiment, finished or not.
        names: trials, as `find_trial` takes them; none: the frontier, each point by the file that stands for it.
        all: every complete trial, and every stage of the cache.
        evaluate: also evaluate the decoded network on the validation split. Its accuracy must be the recorded one
            where the device is; on another one it may differ by a tenth of a point, or by one image.

    Raises:
        ConfigError: a name fits no complete trial, there is nothing to verify, or the data set is not at hand or
            another one.
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    if all and names:
        raise ConfigError(f"--all takes every trial: leave {names[0]!r} out, or --all.")
    records, damaged = read_ledger(folder)
    chosen = _chosen(folder, records, names, all=all)
    if names:
        for file in damaged:
            note(f"left out: {file.problem}")
        damaged, problems, others = [], [], []
    else:
        judged = {folder.packed_file(record.assignment.trial_id) for record in chosen}
        problems = [found for found in cross_check(folder, records, stages=all) if found.path not in judged]
        others = without_record(folder)
    if not chosen and not damaged and not problems:
        wanted = "complete trial" if all else "frontier"
        raise ConfigError(f"{folder.path} has no {wanted} yet: run `tune-app run` first.")
    workplaces = _workplaces(folder) if evaluate and chosen else None
    verdicts = [_verdict(r, folder, workplaces) for r in track(chosen, "verifying trials", total=len(chosen))]
    return Verification(folder, verdicts, damaged, problems, others)


def _chosen(
    folder: ExperimentFolder, records: Sequence[TrialRecord], names: Sequence[str], *, all: bool
) -> list[TrialRecord]:
    """Returns the trials to verify, each once: those that are named, or all that are complete, or the frontier."""
    if names:
        found = (find_trial(folder, name, records) for name in names)
        return list({record.assignment.trial_id: record for record in found}.values())
    if all:
        return [record for record in records if record.state == "complete"]
    by_id = {record.assignment.trial_id: record for record in records}
    return [by_id[trial_id] for trial_id in frontier_ids(records, folder.read_spec())]


Workplaces = Callable[[float], "Workplace"]
"""Returns where to evaluate, by the share of a GPU: 0 is the CPU, 1 a GPU if there is one."""


def _workplaces(folder: ExperimentFolder) -> Workplaces:
    """Loads the validation split once for each kind of device, with the threads that a trial has."""
    with doing("loading data"):
        from trainables.stages.workplace import open_workplace

        data, cpu = experiment_data(folder), folder.read_spec().resources.cpu
    return functools.cache(lambda gpu: open_workplace(data, folder.stages, cpu=cpu, gpu=gpu))


def _verdict(record: TrialRecord, folder: ExperimentFolder, workplaces: Workplaces | None) -> Verdict:
    """Compares the file of a complete trial with its record, rule by rule, until the rest would follow."""
    from trainables.export.packed import unpack

    path = folder.packed_file(record.assignment.trial_id)
    result = record.result
    assert isinstance(result, Completed), "only such trials are chosen"
    try:
        content = read_bytes(path)
    except OSError:
        return Verdict(record, path, (Mismatch("file", str(path), "missing"),))
    recorded = {"size_bytes": result.measurement.size_bytes, "sha256": result.artifact_sha256}
    other = _differing(recorded, {"size_bytes": len(content), "sha256": sha256(content)})
    try:
        packed = unpack(content)
    except CorruptFile as err:
        return Verdict(record, path, (*other, Mismatch("decoding", "a packed file", str(err))))
    if other:
        return Verdict(record, path, other)
    network = _other_network(packed, result, size_bytes=len(content))
    if workplaces is None:
        return Verdict(record, path, network)
    accuracy, judged = _evaluated(content, record, result, workplaces)
    return Verdict(record, path, (*network, *judged), accuracy)


def _other_network(packed: "PackedModel", result: Completed, *, size_bytes: int) -> tuple[Mismatch, ...]:
    """Returns how the decoded network differs from the recorded one: in its architecture and its metrics."""
    from trainables.measure import file_metrics

    recorded, inside = (a.model_dump(mode="json") for a in (result.architecture, packed.header.architecture))
    found = file_metrics(packed, size_bytes=size_bytes)
    return (
        *(Mismatch(f"architecture.{where}", old, new) for where, old, new in differences(recorded, inside)),
        *_differing({name: getattr(result.measurement, name) for name in found}, found),
    )


def _evaluated(
    content: bytes, record: TrialRecord, result: Completed, workplaces: Workplaces
) -> tuple[float, tuple[Mismatch, ...]]:
    """Returns the accuracy, on a device of the kind that measured the trial if there is one, and how it differs."""
    from trainables.measure import TOLERANCE, packed_scores

    device, measured = record.environment.get("device", ""), result.measurement
    place = workplaces(0.0 if device == "cpu" else 1.0)
    accuracy, n = packed_scores(content, place.val, place.device).accuracy, len(place.val)
    # 1e-9 is far below one image of any data set, and above the rounding of a difference of two shares.
    allowed = 0.0 if place.device.name == device else max(TOLERANCE, 1 / n) + 1e-9
    again = measured.accuracy if abs(accuracy - measured.accuracy) <= allowed else accuracy
    return accuracy, _differing({"n": measured.n, "accuracy": measured.accuracy}, {"n": n, "accuracy": again})


def _differing(recorded: dict[str, Any], found: dict[str, Any]) -> tuple[Mismatch, ...]:
    """Returns the values that are not the recorded ones, by their names."""
    return tuple(Mismatch(rule, recorded[rule], found[rule]) for rule in found if recorded[rule] != found[rule])
