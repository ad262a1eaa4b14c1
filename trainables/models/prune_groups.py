"""PruneGroup: channels that can only be removed together (torch-free)."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PruneGroup:
    """Output channels of `source`, which pass one by one `through` depthwise units into the inputs of `sinks`.

    An `optional` group is left alone unless it is asked for.
    """

    name: str
    source: str
    sinks: tuple[str, ...]
    through: tuple[str, ...] = ()
    optional: bool = False


def chosen(groups: Iterable[PruneGroup], *, head: bool) -> list[PruneGroup]:
    """The groups that a stage may touch; the only optional one is the convolution before the classifier."""
    return [group for group in groups if head or not group.optional]
