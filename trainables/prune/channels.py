"""Removing channels: the narrower network with what is left of the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.config import Architecture
from trainables.models.model import Model, build, unpruned
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import units
from trainables.prune.plan import ChannelPlan


def prune_channels(model: Model, architecture: Architecture, plan: ChannelPlan) -> tuple[Model, Architecture]:
    """Builds the narrower network, on CPU, with the kept weights and statistics; groups outside the plan stay."""
    widths = {**architecture.widths, **{name: len(kept) for name, kept in plan.items()}}
    narrow = architecture.model_copy(update={"widths": widths})
    outputs, inputs = _indices(model.prune_groups(), plan)
    state = {}
    for name, tensor in model.state_dict().items():
        unit = name.rsplit(".", 2)[0]  # blocks.1.expand.bn.weight: blocks.1.expand
        kept = _select(tensor, outputs.get(unit), 0) if tensor.ndim else tensor
        state[name] = _select(kept, inputs.get(unit), 1) if name == f"{unit}.layer.weight" else kept
    pruned = build(narrow)
    pruned.load_state_dict(state)
    return pruned, narrow


def prune_frac_achieved(architecture: Architecture) -> float:
    """Returns the share of prunable channels that are gone, among the groups that pruning was allowed to touch.

    Optional groups count only where the architecture names them: a stage names every group that it may touch.
    """
    full = unpruned(architecture)
    layers = units(full)
    groups = [g for g in full.prune_groups() if not g.optional or g.name in architecture.widths]
    counts = {g.name: layers[g.source].layer.weight.shape[0] for g in groups}
    total = sum(counts.values())
    kept = sum(architecture.widths.get(name, count) for name, count in counts.items())
    return 1 - kept / total if total else 0.0


def _indices(groups: Sequence[PruneGroup], plan: ChannelPlan) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Returns the kept output channels and the kept input channels, by the name of the unit."""
    planned = [group for group in groups if group.name in plan]
    outputs = {name: plan[group.name] for group in planned for name in (group.source, *group.through)}
    return outputs, {name: plan[group.name] for group in planned for name in group.sinks}


def _select(tensor: Tensor, kept: list[int] | None, dim: int) -> Tensor:
    return tensor if kept is None else tensor.index_select(dim, torch.tensor(kept, device=tensor.device))
