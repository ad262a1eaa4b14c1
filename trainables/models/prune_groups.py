"""PruneGroup: channels that can only be removed together, and where they lie."""

from collections.abc import Iterable
from dataclasses import dataclass

from trainables.graph.channels import Coupled


@dataclass(frozen=True)
class PruneGroup:
    """Channels that units produce together (`sources`) and that other units read (`sinks`), any of which may go.

    Each names a unit, or a node with tensors of its own such as a norm that stands alone, and where in it every
    channel lies: along the outputs for sources, along the inputs for sinks. An `optional` group, the layer before the
    classifier, is left alone unless it is asked for. A group that is not `inner` is of a residual stream, which many
    blocks read: the channels that are added up, and in a network with such sums the first convolution's and those of
    projections.
    """

    name: str
    channels: int
    sources: tuple[Coupled, ...]
    sinks: tuple[Coupled, ...]
    optional: bool = False
    inner: bool = True

    @property
    def source(self) -> str:
        """The unit that makes the channels, or the first of several."""
        return self.sources[0].node


def chosen(groups: Iterable[PruneGroup], *, head: bool, streams: bool) -> list[PruneGroup]:
    """Returns the groups that a stage may prune: the layer before the classifier with `head`, all others but inner ones
    with `streams`.
    """
    return [group for group in groups if (head or not group.optional) and (streams or group.inner)]
