"""PruneGroup: channels that can only be removed together (torch-free)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PruneGroup:
    """Output channels of `source`, which pass one by one `through` depthwise units into the inputs of `sinks`."""

    name: str
    source: str
    sinks: tuple[str, ...]
    through: tuple[str, ...] = ()
