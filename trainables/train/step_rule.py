"""StepRule: what acts on a network after each training step, beside the optimizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """Where a training run is: `step` of `total` steps are done."""

    step: int
    total: int

    @property
    def share(self) -> float:
        """Of the run that is done, 0 to 1."""
        return self.step / self.total


class StepRule(Protocol):
    """Holds weights at zero, freezes them, moves a mask: whatever training must respect at every step.

    A rule is made for one network and changes it in place. What it remembers is saved with each epoch, so that
    a run that was killed goes on as if it had not been.
    """

    def after_step(self, moment: Moment) -> None:
        """Acts on the network, after the optimizer."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the rule remembers beyond the network itself, by name."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        ...
