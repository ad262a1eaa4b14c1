"""PruneGroup: channels that can only be removed together (torch-free)."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PruneGroup:
    """The output channels of unit `source`, which pass one by one `through` depthwise units into inputs of `sinks`.

    An `optional` group is left alone unless it is asked for.
    """

    name: str
    source: str
    sinks: tuple[str, ...]
    through: tuple[str, ...] = ()
    optional: bool = False


def chosen(groups: Iterable[PruneGroup], *, head: bool) -> list[PruneGroup]:
    """Returns the groups that a stage may prune; the optional one, the layer before the classifier, with `head`."""
    return [group for group in groups if head or not group.optional]
