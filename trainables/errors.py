"""The root of the error tree, every way in which one trial can end badly, and the nearest known name (torch-free).

A leaf is a situation with a policy: what the ledger says of the trial (`state`), and the exit code of a
command that meets it. Experiment-level leaves are in `tune_app.errors`.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar, Literal

State = Literal["complete", "invalid", "failed"]
"""What the ledger says of a trial. An invalid one would end the same way again; a failed one may succeed next time."""


class TuneAppError(Exception):
    """The root of every error that this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(TuneAppError):
    """A value, name, file or query was refused where it entered; the message says rule, value and way out."""

    exit_code = 2


class StorageUnavailable(TuneAppError):
    """A folder is not writable, full, or does not answer."""

    exit_code = 3


class CorruptFile(TuneAppError):
    """A record, checkpoint or packed file is truncated, altered or foreign."""

    exit_code = 6


class TrialFailure(TuneAppError):
    """The end of one attempt. It is recorded, and the sampler is told FAIL with the reason."""

    exit_code = 4
    state: ClassVar[State] = "failed"
    is_answer: ClassVar[bool] = False
    """Whether the failure says something about the configuration: nothing went wrong, and others may do well."""
    stage = ""
    """The kind of the stage that failed; set on the way out of it."""
    measurement: object = None
    """The `results.Measurement` of the packed file, where one was measured before it was refused."""
    remembered = False
    """Whether nothing was tried, since the stage failed before and its failure was remembered."""


class InfeasiblePoint(TrialFailure):
    """The parameters give no legal network."""

    state = "invalid"
    is_answer = True


class Diverged(TrialFailure):
    """The loss or a weight became NaN or infinite."""

    state = "invalid"


class Collapsed(TrialFailure):
    """The accuracy of the compressed network is at chance."""

    state = "invalid"
    is_answer = True


class NotFinite(TrialFailure):
    """An objective is missing, NaN or infinite, or a number that a stage measured is."""

    state = "invalid"


class ArtifactMismatch(TrialFailure):
    """The decoded file is not the network that was packed."""

    exit_code = 6
    state = "invalid"


class OutOfMemory(TrialFailure):
    """The GPU's memory was not enough, with a whole GPU for the trial."""


class WorkerLost(TrialFailure):
    """The worker was killed or preempted more often than the retry budget allows."""


class UnexpectedError(TrialFailure):
    """Any other exception; its traceback is kept in the record."""

    trace = ""
    """The traceback, as text."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Returns the known name that is spelled most like a name; empty if none is alike.

    `cutoff` is how alike two names must be, from 0 to 1; 0.6 is the default of `difflib`.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str], *, before: str = "", otherwise: str = "") -> str:
    """Returns `before` and `did you mean 'w_bits'?` where a known name is spelled like this one, else `otherwise`."""
    found = nearest(name, known)
    return f"{before}did you mean {found!r}?" if found else otherwise
