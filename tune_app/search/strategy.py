"""Strategy: what a Proposer asks for the next trial. A new way to search is one subclass and one name in SAMPLERS."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field

from trainables.config import Frozen
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.ladder import Ladder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.terminal.quantities import show_duration

NEXT = 10
"""Trials that an outlook looks at: of fewer, one good guess would be most of it."""
OUTLOOK = "outlook"
"""Where an assignment keeps the outlook of its time, among its attributes."""


class Outlook(Frozen):
    """What the next trials are expected to bring, about NEXT of them."""

    growth: float = Field(ge=0, description="of the hypervolume, as a share of what it is")
    training_s: float = Field(ge=0, description="seconds of training for it")

    @property
    def per_hour(self) -> float:
        """The growth for an hour of training."""
        return self.growth * 3600 / max(self.training_s, 1e-9)

    def __str__(self) -> str:
        percent = 100 * self.growth
        shown = f"{percent:,.2g}" if percent < 10 else f"{percent:,.0f}"
        return f"the next {NEXT} trials: {shown} % more hypervolume for {show_duration(self.training_s)} of training"


@dataclass(frozen=True)
class Choice:
    """A trial that a strategy wants; the proposer hands its `token` back when the trial has ended."""

    params: Params
    rung: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that are stored with the assignment, and are there again in its record."""
    token: Any = None


@dataclass(frozen=True)
class Step:
    """A stage that a trial needs, beside the baseline that all trials share."""

    kind: str
    key: str
    epochs: int
    """Epochs of training, at least 1 also for a stage that trains nothing: it takes time too."""


class KeyOf(Protocol):
    """Gives the configuration key of a run of a point; repeat 0 is its first run."""

    def __call__(self, params: Params, repeat: int = 0, /) -> str:
        """Returns the key of a point's configuration."""


StepsOf = Callable[[Params, str], Sequence[Step]]
"""Gives the steps of a point at a rung."""
Bounds = Callable[[Params], str]
"""Says why a point is refused; an empty text where it is not."""


@dataclass(frozen=True)
class Setting:
    """What a strategy is opened with: the spec of the search, and what is known of its points and rungs."""

    spec: ExperimentSpec
    ladder: Ladder
    """How the points stand at each rung; the proposer adds every record to it before the strategy hears of it."""
    key_of: KeyOf
    steps_of: StepsOf
    bounds: Bounds
    """What refuses points that must not be proposed."""
    reference: Mapping[str, float]
    """The corner that bounds the hypervolume, by objective."""
    finished: int
    """Records that are there already; with it in the seed, random draws do not start over after a resume."""

    @property
    def seed(self) -> int:
        """The seed of random draws: a large odd factor away from that of the next sampler seed, whatever finished."""
        return (self.spec.sampler.seed * 1_000_003 + self.finished) % 2**32

    def first_points(self) -> list[Params]:
        """Returns the points that the spec wants tried first, each with the parameters that it has."""
        space = self.spec.space
        return [{name: point[name] for name in space.active(point)} for point in self.spec.points]


class Strategy(abc.ABC):
    """Chooses points and rungs, and learns from the first run of each point; a subclass is opened with a `Setting`."""

    @abc.abstractmethod
    def suggest(self, pending: Sequence[Assignment]) -> Choice | None:
        """Returns the next trial beside those that run or wait, or None when there is none now."""

    @property
    def outlook(self) -> Outlook | None:
        """What the trials after the newest suggestion are expected to bring; None: that is unknown."""
        return None

    @abc.abstractmethod
    def replay(self, record: TrialRecord) -> None:
        """Learns from a record of an earlier run, of any state."""

    def resume(self, work: Assignment) -> Any:
        """Returns a token for a trial that starts once more, after its worker or the driver was lost."""
        return None

    def tell(self, record: TrialRecord, token: Any) -> None:
        """Learns from a trial of this run that has ended."""
        self.replay(record)

    def forget(self, token: Any) -> None:
        """Gives up a trial of this run, which will not end under this token."""
        return None

    def advise(self, record: TrialRecord) -> None:
        """Takes advice from a record of another experiment that is no result here."""
        return None
