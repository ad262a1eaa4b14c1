"""Experiment-level errors, and the exit code of everything that can end a command.

Each class carries its own `exit_code`: 0 done · 1 a bug · 2 bad input · 3 storage or cluster does not answer ·
4 the work ended badly · 5 lease held · 6 stored data is not what it should be · 130 / 143 stopped by a signal.
"""

import signal

from trainables.errors import TuneAppError


class ClusterUnavailable(TuneAppError):
    """Ray cannot be started or does not answer."""

    exit_code = 3


class LeaseHeld(TuneAppError):
    """Another driver works on this experiment, or took it over."""

    exit_code = 5


class SearchAborted(TuneAppError):
    """Too many trials failed, or none completed."""

    exit_code = 4


class Interrupted(BaseException):
    """SIGINT or SIGTERM; not an Exception, so that no handler on the way takes it for a failed trial.

    `of_search` says that it ended a search, which the same command goes on with.
    """

    def __init__(self, number: int, *, of_search: bool = False) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        self.of_search = of_search
