"""Strategy: what a Proposer asks for the next trial.

A new way to search is one more class, and a line in `tune_app.strategies`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tune_app.ledger.ledger import Assignment, Params, TrialRecord


@dataclass(frozen=True)
class Choice:
    """A trial that a strategy wants; `token` is its own, handed back when the trial has ended."""

    params: Params
    rung: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    token: Any = None


@dataclass(frozen=True)
class Step:
    """A stage that a trial needs, beside those that all trials share."""

    kind: str
    key: str
    epochs: int
    """At least 1, also without training."""


class KeyOf(Protocol):
    """Gives the configuration key of a run of a point; repeat 0 is its first run."""

    def __call__(self, params: Params, repeat: int = 0, /) -> str:
        """The key."""
        ...


StepsOf = Callable[[Params, str], Sequence[Step]]
"""The steps of a point at a rung."""


class Strategy(Protocol):
    """Chooses points and rungs; learns from first runs alone."""

    def next(self, pending: Sequence[Assignment]) -> Choice | None:
        """The next trial beside those that run or wait, or None when there is none now."""
        ...

    def again(self, work: Assignment) -> Any:
        """A token for a trial that starts once more, after its worker or the driver was lost."""
        ...

    def finish(self, record: TrialRecord, token: Any) -> None:
        """A trial of this run has ended."""
        ...

    def abandon(self, token: Any) -> None:
        """A trial of this run will not end under this token."""
        ...

    def learn(self, record: TrialRecord) -> None:
        """A record of an earlier run."""
        ...

    def advise(self, record: TrialRecord) -> None:
        """A record of another experiment that is no result here."""
        ...
