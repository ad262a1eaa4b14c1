"""Lease: one driver at a time on an experiment, and what it had in flight when it died."""

import contextlib
from collections.abc import Iterable

from trainables.config import sealed, unsealed
from trainables.errors import StorageUnavailable
from trainables.storage import Lock, StoragePath, create_once, names, read_bytes, read_many, remove, replace
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder, is_whole_spec
from tune_app.ledger.ledger import Assignment, InFlight

COPIES = "[0-9]" * 8 + ".yaml"
"""The names of the specs that drivers leave beside the lease, by their generation."""


class Lease:
    """The right to drive an experiment, as a context that holds its lock; the lock's generation is the fencing number.

    A driver that was taken over (suspended, then resumed) finds a higher generation and stops writing.
    """

    def __init__(self, folder: ExperimentFolder) -> None:
        self.folder = folder
        self._lock = Lock(folder.lease)

    def __enter__(self) -> "Lease":
        """Takes the lease, after some waiting when a driver on another machine may be dead.

        Raises:
            LeaseHeld: another driver is alive.
            StorageUnavailable: the folder cannot be written.
        """
        if not self._lock.acquire():
            raise self._refusal()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def generation(self) -> int:
        """How many have held this lease so far, this one included; 0 where it is not held."""
        return self._lock.generation

    @property
    def is_held(self) -> bool:
        """Whether no other driver has taken over; this looks into the folder."""
        return self._lock.held()

    @property
    def is_taken(self) -> bool:
        """Whether a driver seems to be alive, this one or another; this looks into the folder and writes nothing."""
        return self._lock.is_taken()

    def require_free(self) -> None:
        """Raises LeaseHeld if a driver seems to be alive; nothing is written."""
        if self.is_taken:
            raise self._refusal()

    def check(self) -> None:
        """Raises LeaseHeld after another driver took over; asked before every launch and every rewrite."""
        if not self.is_held:
            raise LeaseHeld(f"another driver took over {self.folder.path}: this one stops.")

    def _refusal(self) -> LeaseHeld:
        """Returns the error that names the holder."""
        holder = self._lock.holder() or {}
        return LeaseHeld(
            f"{self.folder.path} is being worked on by process {holder.get('pid', '?')} on "
            f"{holder.get('host', '?')}: wait for it or stop it. Reading commands work meanwhile."
        )

    def save_spec(self, text: bytes) -> None:
        """Keeps the text of the holder's spec beside the lease, for a driver that wakes when it has lost it."""
        create_once(self._spec_copy(self.generation), text)
        for name in names(self.folder.lease, COPIES):
            if name < self._spec_copy(self.generation).name:
                with contextlib.suppress(StorageUnavailable):  # a foreign folder: in nobody's way
                    remove(self.folder.lease / name)

    def newer_spec(self) -> bytes | None:
        """Returns the spec's text of the newest driver after this one; None where there is none, or none yet."""
        newer = [name for name in names(self.folder.lease, COPIES) if name > self._spec_copy(self.generation).name]
        found = list(read_many(self.folder.lease / name for name in newer[-1:]))
        return found[0] if found and isinstance(found[0], bytes) and is_whole_spec(found[0]) else None

    def _spec_copy(self, generation: int) -> StoragePath:
        return self.folder.lease / f"{generation:08d}.yaml"

    def save_in_flight(self, work: Iterable[Assignment]) -> None:
        """Remembers what is running, so that a resumed search runs the same points first.

        Not durable: it is rewritten while trials start, and without it a search only chooses anew.
        """
        replace(self.folder.in_flight_file, sealed(InFlight(assignments=tuple(work))), durable=False)

    def in_flight(self) -> list[Assignment]:
        """Returns what the last driver was running when it stopped; a damaged file counts as nothing."""
        try:
            return list(unsealed(read_bytes(self.folder.in_flight_file), InFlight).assignments)
        except (OSError, ValueError, RecursionError):
            return []
