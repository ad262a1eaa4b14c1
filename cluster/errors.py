"""What can go wrong between this machine and a cluster; a leaf is a situation with the exit code of a command.

This package imports none of the others, so its errors have a root of their own; the codes are the command
line's: 2 bad input · 3 the cluster does not answer · 6 stored data is not what it should be.
"""

import re
from typing import ClassVar


class ClusterError(Exception):
    """Anything that this package raises on purpose: one line with the rule, the value and a way out."""

    exit_code: ClassVar[int] = 3


class PlanRefused(ClusterError):
    """The job cannot run there as it is configured."""

    exit_code = 2


class ClusterUnreachable(ClusterError):
    """Nothing answers at the address, or not in time."""


class AccessDenied(ClusterError):
    """The cluster answers 401 or 403: the token is missing, wrong or of another cluster."""


class NoSuchJob(ClusterError):
    """The cluster knows no job of this name."""

    exit_code = 2


class FolderUnwritable(ClusterError):
    """A folder of this machine takes no files."""


class CorruptJob(ClusterError):
    """What this machine remembers of a job is not what was written."""

    exit_code = 6


def first_line(err: BaseException) -> str:
    """Returns what an error says, in one line; of a connection that failed only why, and of a stack trace the end."""
    lines = str(err).strip().rpartition("Traceback (most recent call last):")[2].splitlines()
    said = next((line.strip() for line in lines if line and not line[0].isspace()), type(err).__name__)
    system = re.search(r"\[Errno -?\d+\] ([\w ,'-]*\w)", said)  # behind the address and the calls of the client
    return system[1] if system and "HTTPConnection" in said else said
