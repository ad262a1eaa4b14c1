"""The ledger: one immutable file per finished trial, the only truth of an experiment.

Everything else (parquet files, the sampler's study, budgets) is derived from it and can be deleted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from search_spaces.rungs import FULL
from trainables import errors
from trainables.config import Frozen, digest, in_words
from trainables.errors import CorruptFile, State
from trainables.printable import Printable
from trainables.results import Completed, Failed, Seconds, Share
from trainables.storage import StoragePath, create_once, move, names, read_bytes, read_many, remove
from tune_app.terminal.progress import counted

SCHEMA = 1
"""The number of the format of a record's file; a file of another number is left alone."""
Params = dict[Printable, float | int | Printable]
Place = tuple[str, str]
"""The place of a trial in a search: its configuration's key, and the rung."""


class Assignment(Frozen):
    """What one Ray trial has to do."""

    number: int = Field(ge=0, description="order of proposal; never a clock")
    config_key: Printable = Field(description="SHA-256 of the last stage's key: the configuration as a whole")
    params: Params
    rung: Printable = FULL
    repeat: int = Field(0, ge=0, description="further run of a point with other random numbers; 0: the first")
    seed: int = Field(description="of the stages after the baseline")
    attempt: int = Field(1, ge=1, description="one more each time that it runs again after it failed")
    sampler_attrs: dict[str, Any] = Field(default_factory=dict)

    @property
    def trial_id(self) -> str:
        """The name of the trial's files: `<16 hex of the configuration>-<rung>-a<attempt>`."""
        return f"{self.config_key[:16]}-{self.rung}-a{self.attempt}"

    @property
    def place(self) -> Place:
        """The place of its record among all of a search; a further attempt takes the same one."""
        return self.config_key, self.rung

    @property
    def is_trial(self) -> bool:
        """Whether a budget of trials counts it: the first run of the full schedule."""
        return self.rung == FULL and self.repeat == 0

    @property
    def label(self) -> str:
        """The name that people read and type: `p30_w4_a8`, at a rung `p30_w4_a8@ptq`; its second run is `…#2`."""
        rung = "" if self.rung == FULL else f"@{self.rung}"
        again = f"#{self.repeat + 1}" if self.repeat else ""
        return f"{params_label(self.params)}{rung}{again}"


ASSIGNMENTS = TypeAdapter(list[Assignment])
"""Writes assignments as a JSON array, and reads one."""


class InFlight(Frozen):
    """What was running when a driver last said so."""

    assignments: tuple[Assignment, ...]


class TrialRecord(Frozen):
    """One finished trial: what it had to do, how it ended, where it ran and how long."""

    assignment: Assignment
    result: Completed | Failed
    environment: dict[Printable, Printable] = Field(
        description="versions of this package, torch, ray and plug-ins; host; device"
    )
    started_at: Printable = Field(description="UTC, ISO 8601; for people, never for order")
    seconds: Seconds = Field(description="wall time of the trial in its worker")
    gpu_share: float = Field(0.0, ge=0, description="of a GPU, that it held")
    gpu_peak_share: Share | None = Field(None, description="most of a GPU's memory that it reserved, 0 to 1")
    out_of_memory: int = Field(0, ge=0, description="times it had run out of GPU memory before")
    taken_from: Printable = Field("", description="name of the experiment that ran it; empty: this one")

    @property
    def state(self) -> State:
        """The end of the trial: `complete`, or what the failure says."""
        return "complete" if isinstance(self.result, Completed) else self.result.failure.state

    @property
    def reason(self) -> str:
        """The reason why there is no usable result; empty when there is one."""
        if isinstance(self.result, Completed):
            return ""
        return f"{self.result.failure.kind}: {self.result.failure.message}"

    @property
    def is_fault(self) -> bool:
        """Whether something went wrong, and it was not the configuration's own answer (`TrialFailure.is_answer`)."""
        if isinstance(self.result, Completed):
            return False
        return not getattr(getattr(errors, self.result.failure.kind, None), "is_answer", False)

    @property
    def is_at_chance(self) -> bool:
        """Whether its network was measured, and refused for an accuracy at chance."""
        return isinstance(self.result, Failed) and self.result.failure.kind == errors.Collapsed.__name__

    def metrics(self) -> dict[str, float]:
        """Returns the numbers of a usable result by column; empty without one, also where its file was measured."""
        return self.measured() if isinstance(self.result, Completed) else {}

    def measured(self) -> dict[str, float]:
        """Returns the numbers of the packed file by column, also of one that was refused; empty where there is none."""
        if self.result.measurement is None:
            return {}
        numbers = self.result.measurement.model_dump(
            exclude={"size_breakdown", "formula_bytes", "split", "onnx_failure"}
        )
        return {name: float(value) for name, value in numbers.items() if value is not None}


def failure_kind(reason: str | None) -> str:
    """Returns the name of the error from a trial's reason, as a record or a row has it; empty for a complete one."""
    return (reason or "").partition(":")[0]


def params_label(params: Params) -> str:
    """Returns the short name of a point, `p30_w4_a8`; other parameters follow as name=value."""
    short = {"prune_frac": "p", "w_bits": "w", "a_bits": "a"}
    parts = []
    for name, value in params.items():
        shown = f"{100 * float(value):g}" if name == "prune_frac" else str(value)
        parts.append(f"{short[name]}{shown}" if name in short else f"{name}={shown}")
    return "_".join(parts)


@dataclass(frozen=True)
class Damaged:
    """A file in the ledger that is not a record, or none that this version reads."""

    path: StoragePath
    problem: str
    whole: bool = False
    """Its checksum holds: another version of this package wrote it."""


class Ledger:
    """The records of an experiment's trials, files of one folder."""

    def __init__(self, folder: StoragePath) -> None:
        self._folder = folder

    def add(self, record: TrialRecord) -> bool:
        """Writes a record durably; False when this attempt has one already (the first one stays).

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        return create_once(self._path(record.assignment.trial_id), _encode(record))

    def ids(self) -> set[str]:
        """Returns the ids of all attempts that have a file, whatever is in it.

        Raises:
            StorageUnavailable: the folder cannot be listed.
        """
        return {name.removesuffix(".json") for name in names(self._folder, "*.json")}

    def find(self, trial_id: str) -> TrialRecord | None:
        """Reads the record of one attempt; None where there is none, or a damaged one."""
        path = self._path(trial_id)
        try:
            found = _decode(path, read_bytes(path))
        except OSError:
            return None
        return found if isinstance(found, TrialRecord) else None

    def read(self, *, shown: str = "") -> tuple[list[TrialRecord], list[Damaged]]:
        """Reads all records in order of proposal, and names the files that are none; people see a bar called `shown`.

        Raises:
            StorageUnavailable: a file cannot be read.
        """
        records, damaged = list[TrialRecord](), list[Damaged]()
        paths = [self._folder / name for name in names(self._folder, "*.json")]
        contents = zip(paths, read_many(paths), strict=True)
        for path, content in counted(contents, shown, total=len(paths)) if shown else contents:
            if isinstance(content, FileNotFoundError):  # put into quarantine since the folder was listed
                continue
            found = _decode(path, content)
            if isinstance(found, TrialRecord):
                records.append(found)
            else:
                damaged.append(found)
        return sorted(records, key=lambda r: (r.assignment.number, r.assignment.attempt)), damaged

    def quarantine(self, damaged: Iterable[Damaged]) -> None:
        """Moves damaged files out of the way, so that their trials can run again.

        What turns out to be a whole record then was written since the ledger was read, and goes back.

        Raises:
            CorruptFile: a file is a whole record of another version; nothing is moved then.
            StorageUnavailable: a file cannot be moved.
        """
        found = list(damaged)
        for item in found:
            if item.whole:
                raise CorruptFile(f"{item.problem}, but it is whole: use the version of tune-app that wrote it.")
        for item in found:
            if self.find(item.path.stem) is not None:  # another driver has put the damaged one aside before
                continue
            aside = self._folder / "quarantine" / item.path.name
            move(item.path, aside)
            self._put_back(aside, item.path)

    def _put_back(self, aside: StoragePath, path: StoragePath) -> None:
        """Puts what was moved back if it is a record, which was written in the moment before."""
        [content] = read_many([aside])
        if isinstance(content, bytes) and isinstance(_decode(path, content), TrialRecord):
            create_once(path, content)
            remove(aside)

    def _path(self, trial_id: str) -> StoragePath:
        return self._folder / f"{trial_id}.json"


def latest(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Keeps the newest attempt of each configuration and rung, in the given order."""
    newest: dict[Place, TrialRecord] = {}
    for record in records:
        work = record.assignment
        known = newest.get(work.place)
        if known is None or known.assignment.attempt < work.attempt:
            newest[work.place] = record
    return list(newest.values())


def in_full(records: Iterable[TrialRecord]) -> int:
    """Counts the records of a point's first run of the full schedule, which a budget of trials is of."""
    return sum(r.assignment.is_trial for r in records)


def _encode(record: TrialRecord) -> bytes:
    body = record.model_dump(mode="json")
    return (json.dumps({"schema": SCHEMA, "sha256": digest(body), "record": body}, indent=1) + "\n").encode()


def _decode(path: StoragePath, content: bytes | OSError) -> TrialRecord | Damaged:
    if isinstance(content, OSError):
        return Damaged(path, f"{path}: a folder, not a trial record")
    try:
        envelope = json.loads(content)
        schema, checksum, body = envelope["schema"], envelope["sha256"], envelope["record"]
        whole = checksum == digest(body)
    except (ValueError, TypeError, KeyError, RecursionError):
        return Damaged(path, f"{path}: not a trial record ({len(content)} bytes)")
    if schema != SCHEMA:
        return Damaged(path, f"{path}: record schema {schema!r}, this version reads {SCHEMA}", whole)
    if not whole:
        return Damaged(path, f"{path}: the checksum does not match the content")
    try:
        record = TrialRecord.model_validate(body)
    except ValidationError as err:
        problem = err.errors()[0]
        first = f"{'.'.join(map(str, problem['loc']))} {in_words(problem)}"
        return Damaged(path, f"{path}: {err.error_count()} fields do not fit the record schema: {first}", whole)
    if record.assignment.trial_id != path.stem:
        return Damaged(path, f"{path}: holds the record of {record.assignment.trial_id}")
    return record
