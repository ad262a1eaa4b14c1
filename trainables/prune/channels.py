"""Removing channels: the narrower network with what is left of the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor

from trainables.config import Architecture
from trainables.errors import ConfigError, InfeasiblePoint
from trainables.models.layout import narrower
from trainables.models.model import Model, build, unpruned
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import units
from trainables.prune.plan import ChannelPlan


def prune_channels(model: Model, architecture: Architecture, plan: ChannelPlan) -> tuple[Model, Architecture]:
    """Builds the narrower network, on CPU, with the kept weights and statistics; groups outside the plan stay.

    Raises:
        InfeasiblePoint: a part of a map, which the network reads by itself, would have no channel left.
    """
    try:
        narrow = narrower(architecture, plan)
        pruned = build(narrow)
    except ConfigError as err:
        raise InfeasiblePoint(f"too many channels are removed ({str(err).rstrip('.')}): lower prune_frac.") from err
    pruned.load_state_dict(kept_state(model, plan))
    return pruned, narrow


def kept_state(model: Model, plan: ChannelPlan) -> dict[str, Tensor]:
    """Returns the tensors of a network without the channels that a plan removes."""
    gone = removed_positions(model.prune_groups(), plan)
    layers = units(model)
    state = {}
    for name, tensor in model.state_dict().items():
        outer, inner = name.rsplit(".", 2)[0], name.rpartition(".")[0]
        # blocks.1.expand.bn.weight is of blocks.1.expand, a class token's value of the token.
        owner = outer if outer in layers or (outer, 0) in gone else inner
        if tensor.ndim:
            tensor = _without(tensor, gone.get((owner, 0)), channel_axis(tensor, unit=owner in layers))
        state[name] = _without(tensor, gone.get((owner, 1)), 1) if name == f"{owner}.layer.weight" else tensor
    return state


def channel_axis(tensor: Tensor, *, unit: bool) -> int:
    """Returns the axis of a tensor along which a unit, or a node by itself, has its output channels."""
    return 0 if unit else next((axis for axis, size in enumerate(tensor.shape) if size > 1), 0)


def removed_positions(groups: Iterable[PruneGroup], plan: ChannelPlan) -> dict[tuple[str, int], set[int]]:
    """Returns the places that go, by unit (or node) and side: 0 outputs, 1 inputs."""
    gone: dict[tuple[str, int], set[int]] = {}
    for group in groups:
        if group.name in plan:
            lost = set(range(group.channels)) - set(plan[group.name])
            for part in (*group.sources, *group.sinks):
                places = (place for channel in lost for place in part.positions[channel])
                gone.setdefault((part.node, part.dim), set()).update(places)
    return gone


def prune_frac_achieved(architecture: Architecture) -> float:
    """Returns the share of prunable channels that are gone, among the groups that pruning was allowed to touch.

    Groups that are left alone by default count only where the architecture names them: a stage names every group that
    it may touch.
    """
    groups = unpruned(architecture).prune_groups()
    counts = {g.name: g.channels for g in groups if g.name in architecture.widths or (g.inner and not g.optional)}
    total = sum(counts.values())
    kept = sum(architecture.widths.get(name, count) for name, count in counts.items())
    return 1 - kept / total if total else 0.0


def _without(tensor: Tensor, gone: set[int] | None, dim: int) -> Tensor:
    if not gone:
        return tensor
    kept = [place for place in range(tensor.shape[dim]) if place not in gone]
    return tensor.index_select(dim, torch.tensor(kept, device=tensor.device))
