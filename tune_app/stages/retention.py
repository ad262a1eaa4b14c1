"""Which stages of an experiment's cache are needed, and which may go when disk runs short.

Results lie in the ledger and packed files in artifacts/, so a stage that went is only made again when a new
trial needs it.
"""

import contextlib
import dataclasses
import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trainables.config import Frozen, stage_keys, stage_of_kind
from trainables.errors import StorageUnavailable, TuneAppError
from trainables.stages.cache import StageCache
from trainables.stages.files import StageEntry
from trainables.storage import remove_drafts
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment
from tune_app.ledger.reading import read_records
from tune_app.spec.experiment import ExperimentSpec
from tune_app.terminal.progress import doing, track

FULL = {errno.ENOSPC, errno.EDQUOT}
"""The numbers of errors that say that a disk, or the share of it that one may use, is full."""
OVER_S = 86_400.0
"""After a day nobody is still at work on a file that he began."""


class Use(Frozen):
    """The number, bytes and seconds of some stages."""

    stages: int
    failures: int
    size_bytes: int
    seconds: float


class CacheUse(Frozen):
    """What an experiment's cache holds: by kind of stage, in all, and for the frontier and what all trials share."""

    kinds: dict[str, Use]
    total: Use
    needed: Use


@dataclass(frozen=True)
class Collection:
    """The stages that went, or would go, and the bytes that stay."""

    removed: list[StageEntry]
    kept_bytes: int
    max_bytes: int

    @property
    def freed_bytes(self) -> int:
        """The bytes of the removed stages."""
        return sum(entry.size_bytes for entry in self.removed)


def survey(folder: ExperimentFolder) -> CacheUse:
    """Counts what the cache of an experiment holds now; nothing is written.

    Raises:
        CorruptFile: the stored spec is damaged.
        StorageUnavailable: a file cannot be read.
    """
    entries, is_needed = _entries(folder), _needs(folder, in_flight=())
    kinds = {kind: _use(e for e in entries if e.kind == kind) for kind in sorted({e.kind for e in entries})}
    return CacheUse(kinds=kinds, total=_use(entries), needed=_use(e for e in entries if is_needed(e)))


def collect(folder: ExperimentFolder, *, max_bytes: int, dry_run: bool = False) -> Collection:
    """Removes stages until at most `max_bytes` of them are left, or only such that must stay.

    The baseline, its teacher, the stages of frontier trials, those of trials that were cut off, and remembered
    failures stay. Last stages go first, then what others start from, the oldest first. What processes that were
    killed left behind and nobody will read goes too, uncounted. On a disk without room for the lease the first stages
    go before it is taken, unless a search is running.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        LeaseHeld: a search is running on this experiment; a dry run does not mind.
        StorageUnavailable: a folder cannot be read or written.
    """
    if dry_run:
        return _collection(folder, max_bytes)
    first = _make_room(folder, max_bytes)
    with Lease(folder) as lease:
        remove_drafts(folder.path, older_than_s=OVER_S)
        StageCache(folder.stages).sweep(older_than_s=OVER_S)
        collection = _collection(folder, max_bytes)
        for entry in track(collection.removed, "removing stages", total=len(collection.removed)):
            lease.check()
            StageCache(folder.stages).remove(entry.key)
    return dataclasses.replace(collection, removed=[*first, *collection.removed])


def _make_room(folder: ExperimentFolder, max_bytes: int) -> list[StageEntry]:
    """Removes stages that would go anyway until the disk has room for a lease; returns them, none where it has.

    A search that began meanwhile would miss them no more than others: it makes again what it needs.
    """
    removed: list[StageEntry] = []
    try:
        folder.probe()
    except StorageUnavailable as err:
        if getattr(err.__cause__, "errno", None) not in FULL:
            raise
        Lease(folder).require_free()
        for entry in _collection(folder, max_bytes).removed:
            StageCache(folder.stages).remove(entry.key)
            removed.append(entry)
            with contextlib.suppress(StorageUnavailable):
                folder.probe()
                return removed
        raise
    return removed


def _collection(folder: ExperimentFolder, max_bytes: int) -> Collection:
    entries = _entries(folder)
    removed = _surplus(entries, _needs(folder, in_flight=Lease(folder).in_flight()), max_bytes)
    kept = sum(e.size_bytes for e in entries) - sum(e.size_bytes for e in removed)
    return Collection(removed, kept, max_bytes)


def _entries(folder: ExperimentFolder) -> list[StageEntry]:
    with doing("reading the stage cache"):
        return StageCache(folder.stages).entries()


def _surplus(
    entries: Sequence[StageEntry], is_needed: Callable[[StageEntry], bool], max_bytes: int
) -> list[StageEntry]:
    """Lists what has to go, in the order in which it goes."""
    over = sum(e.size_bytes for e in entries) - max_bytes
    free = [e for e in entries if not e.failed and not is_needed(e)]
    surplus: list[StageEntry] = []
    for entry in sorted(free, key=lambda e: (not stage_of_kind(e.kind).ENDS, e.modified, e.key)):
        if over <= 0:
            break
        surplus.append(entry)
        over -= entry.size_bytes
    return surplus


def _needs(folder: ExperimentFolder, *, in_flight: Iterable[Assignment]) -> Callable[[StageEntry], bool]:
    """Tells whether a stage is shared by all trials, or is one of the frontier or of what was in flight."""
    spec, baseline = folder.read_spec(), read_baseline(folder)
    # A cache belongs to one experiment: of these kinds it holds the baseline and the teacher, and nothing else.
    shared = {network.kind for network in (spec.base.baseline, spec.base.teacher) if network is not None}
    records = read_records(folder)
    frontier = set(frontier_ids(records, spec))
    keys = {stage.key for r in records if r.assignment.trial_id in frontier for stage in r.result.stages}
    if baseline is not None:
        keys.update(key for work in in_flight for key in _chain(work, spec, baseline.fingerprint))
    return lambda entry: entry.kind in shared or entry.key in keys


def _chain(work: Assignment, spec: ExperimentSpec, fingerprint: str) -> list[str]:
    """Lists the stages of an assignment; none of one that the spec no longer knows."""
    with contextlib.suppress(TuneAppError, KeyError):
        return stage_keys(spec.trial(work.params, work.rung, repeat=work.repeat), fingerprint=fingerprint)
    return []


def _use(entries: Iterable[StageEntry]) -> Use:
    found = list(entries)
    return Use(
        stages=len(found),
        failures=sum(e.failed for e in found),
        size_bytes=sum(e.size_bytes for e in found),
        seconds=sum(e.seconds for e in found),
    )
