"""FileInfo: what a listing tells of a file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing."""

    name: str
    size_bytes: int
    modified: float
    """Seconds since the epoch, by the clock of the file system or object store."""
