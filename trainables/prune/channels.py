"""Structured pruning: choose channels, build the narrower network, copy what is left."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.config import IMPORTANCE, Architecture, ChannelPrune
from trainables.models.model import Model, build
from trainables.models.units import ConvUnit, units
from trainables.prune.groups import PruneGroup
from trainables.stage import StageContext, StageResult, run_stage
from trainables.train import evaluate, fit

ChannelPlan = Mapping[str, list[int]]
"""Kept output channels of each group, as data."""


def plan_channels(model: Model, prune_frac: float, *, importance: str = "l1") -> dict[str, list[int]]:
    """Keeps all but the max(1, floor(C · prune_frac)) least important channels of each group of C.

    Equal scores: the lower index goes first. prune_frac = 0 keeps every channel.
    """
    score = IMPORTANCE[importance]
    by_name = units(model)
    plan = {}
    for group in model.prune_groups():
        unit = by_name[group.source]
        count = unit.layer.weight.shape[0]
        removed = min(count - 1, max(1, math.floor(count * prune_frac + 1e-9))) if prune_frac > 0 else 0
        order = torch.argsort(score(unit), stable=True)
        plan[group.name] = sorted(order[removed:].tolist())
    return plan


def prune_channels(model: Model, architecture: Architecture, plan: ChannelPlan) -> tuple[Model, Architecture]:
    """The narrower network with the kept weights and batch-norm statistics."""
    narrow = architecture.model_copy(update={"widths": {name: len(kept) for name, kept in plan.items()}})
    outputs, inputs = _indices(model.prune_groups(), plan)
    state = {}
    for name, tensor in model.state_dict().items():
        unit = _unit_of(name)
        kept = _select(tensor, outputs.get(unit), 0) if tensor.ndim else tensor
        is_weight = name == f"{unit}.layer.weight"
        state[name] = _select(kept, inputs.get(unit), 1) if is_weight else kept
    pruned = build(narrow)
    pruned.load_state_dict(state)
    return pruned, narrow


def mask_channels_(model: Model, plan: ChannelPlan) -> None:
    """Sets the outputs of the removed channels to zero: computes what the pruned network computes."""
    outputs, _ = _indices(model.prune_groups(), plan)
    for name, unit in units(model).items():
        kept = outputs.get(name)
        if kept is None or not isinstance(unit, ConvUnit):
            continue
        mask = torch.zeros(unit.layer.weight.shape[0])
        mask[kept] = 1
        unit.register_forward_hook(lambda _unit, _args, out, mask=mask: out * mask.view(1, -1, 1, 1))


def prune_frac_achieved(architecture: Architecture) -> float:
    """Share of prunable channels that are gone."""
    full = build(architecture.model_copy(update={"widths": {}}))
    by_name = units(full)
    total = sum(by_name[g.source].layer.weight.shape[0] for g in full.prune_groups())
    kept = sum(architecture.widths.get(g.name, by_name[g.source].layer.weight.shape[0]) for g in full.prune_groups())
    return 1 - kept / total


def _indices(groups: list[PruneGroup], plan: ChannelPlan) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Kept output channels and kept input channels by unit name."""
    outputs: dict[str, list[int]] = {}
    inputs: dict[str, list[int]] = {}
    for group in groups:
        for name in (group.source, *group.through):
            outputs[name] = plan[group.name]
        for name in group.sinks:
            inputs[name] = plan[group.name]
    return outputs, inputs


def _unit_of(name: str) -> str:
    """`blocks.1.expand.bn.weight` → `blocks.1.expand`."""
    return name.rsplit(".", 2)[0]


def _select(tensor: Tensor, kept: list[int] | None, dim: int) -> Tensor:
    return tensor if kept is None else tensor.index_select(dim, torch.tensor(kept, device=tensor.device))


@run_stage.register
def _(config: ChannelPrune, context: StageContext) -> StageResult:
    """Prune the parent in one shot, then fine-tune."""
    parent = context.parent_model()
    plan = plan_channels(parent, config.prune_frac, importance=config.importance)
    model, architecture = prune_channels(parent, context.parent.architecture, plan)
    context.device.place(model)
    history = fit(model, config.fine_tune, context)
    return StageResult(
        architecture=architecture,
        scheme=None,
        state=model.state_dict(),
        metrics={"val_accuracy": evaluate(model, context.val)},
        history=history,
        plan=plan,
    )
