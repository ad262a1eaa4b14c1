"""StepRule: what acts on a network after each training step, beside the optimizer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """The place of a training run in its schedule: `step` of `total` steps are done."""

    step: int
    total: int

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1."""
        return self.step / self.total


class StepRule(ABC):
    """What training must respect at every step: weights held at zero or frozen, masks that move, and the like.

    A rule is made for one network and changes it in place. What it remembers is saved with each epoch, so that
    a run that was killed goes on as if it had not been.
    """

    @abstractmethod
    def after_step(self, moment: Moment) -> None:
        """Acts on the network, after the optimizer."""

    def is_settled(self, moment: Moment) -> bool:
        """Whether the network is under this rule what it will be at the end: an epoch before that is never the best."""
        return True

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that the rule remembers beyond the network itself, by name; none by default."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, by default by copying into these tensors in place.

        What an older version did not save stays as the rule was made with.
        """
        for name, own in self.state().items():
            own.copy_(state.get(name, own))
