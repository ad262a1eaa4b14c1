"""Which channels stay: a plan per prune group, uniform or by one ranking of all groups."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.config import IMPORTANCE, ChannelPrune
from trainables.errors import Diverged, InfeasiblePoint
from trainables.models.model import Model
from trainables.models.prune_groups import PruneGroup, chosen
from trainables.prune.importance import Batch, Criterion

ChannelPlan = Mapping[str, list[int]]
"""The places of the output channels that each group keeps, by its name."""

WIDE, WIDE_MULTIPLE = 96, 16
"""The rule of `round_to: null`. Below 96 channels 16 is too coarse; at 96 it moves the fraction by 1/12 at most."""
EPS = 1e-9
"""Added before rounding down: 0.29 · 100 is 28.999999999999996 in floating point, and 29 are meant."""


def plan_channels(
    model: Model,
    config: ChannelPrune,
    *,
    full: Mapping[str, int] | None = None,
    batches: Iterable[Batch] = (),
    seed: int = 0,
) -> dict[str, list[int]]:
    """Plans which channels to keep of each group that may be touched, ascending, by their place in `model`.

    `config.prune_frac` is of the channels in `full`, by group (None: those that the model has). Equal scores:
    the lower index goes first.

    Raises:
        InfeasiblePoint: no network satisfies the configuration.
        Diverged: a score is NaN or infinite.
    """
    counts = channel_counts(model, config)
    if not counts:
        raise InfeasiblePoint("prune_frac > 0 needs prunable channels, but the network has none: set it to 0.")
    if config.prune_frac == 0:
        return whole(counts)
    full = counts if full is None else full
    criterion: Criterion = IMPORTANCE[config.importance]
    groups = {group.name: group for group in _touched(model, config)}
    scores = criterion.score(model, list(groups.values()), batches=batches, seed=seed)
    if config.scope == "uniform":
        return plan_uniform(_on_cpu(scores), full, config)
    comparable = {name: criterion.compare(model, groups[name], score) for name, score in scores.items()}
    return plan_global(_on_cpu(comparable), full, config)


def plan_uniform(scores: Mapping[str, Tensor], full: Mapping[str, int], config: ChannelPrune) -> dict[str, list[int]]:
    """Keeps the channels of highest score in each group, as many as `kept_count` says."""
    plan = {}
    for name, score in scores.items():
        count = kept_count(full[name], config.prune_frac, multiple_of(full[name], config.round_to))
        plan[name] = sorted(torch.argsort(score, stable=True)[max(0, len(score) - count) :].tolist())
    return plan


def plan_global(scores: Mapping[str, Tensor], full: Mapping[str, int], config: ChannelPrune) -> dict[str, list[int]]:
    """Removes the channels of lowest score of all groups, a multiple at a time, as near to the fraction as can be.

    A group loses its channels in blocks that leave a multiple; blocks go in the order of their mean score while
    they fit into what is left to remove. No group loses more than `max_group_frac`, or goes below `min_channels`.

    Raises:
        InfeasiblePoint: a group has fewer than `min_channels`.
    """
    narrowest = min(full, key=lambda n: full[n])
    if full[narrowest] < config.min_channels:
        raise InfeasiblePoint(
            f"prune.min_channels must be at most the channels of each group, but is {config.min_channels} and "
            f"{narrowest} has {full[narrowest]}: lower it, or choose scope: uniform."
        )
    blocks = [block for name, score in scores.items() for block in _blocks(name, score, full[name], config)]
    gone = sum(full[name] - len(score) for name, score in scores.items())
    left = math.floor(sum(full[name] for name in scores) * config.prune_frac + 0.5) - gone
    removed = _removed(blocks, left)
    return {name: [c for c in range(len(score)) if c not in removed[name]] for name, score in scores.items()}


def kept_count(channels: int, prune_frac: float, multiple: int) -> int:
    """Returns channels − max(1, ⌊channels · prune_frac⌋), moved to the nearest multiple (half up), at least one."""
    kept = channels - max(1, math.floor(channels * prune_frac + EPS))
    return min(channels, multiple * max(1, math.floor(kept / multiple + 0.5)))


def multiple_of(channels: int, round_to: int | None) -> int:
    """Returns the number that the kept channels of a group of this size are a multiple of."""
    return round_to or (WIDE_MULTIPLE if channels >= WIDE else 1)


def channel_counts(model: Model, config: ChannelPrune) -> dict[str, int]:
    """Counts the channels of each group that may be touched."""
    return {group.name: group.channels for group in _touched(model, config)}


def _touched(model: Model, config: ChannelPrune) -> list[PruneGroup]:
    return chosen(model.prune_groups(), head=config.head, streams=config.groups == "all")


def whole(counts: Mapping[str, int]) -> dict[str, list[int]]:
    """Returns the plan that keeps every channel."""
    return {name: list(range(count)) for name, count in counts.items()}


def compose(first: ChannelPlan, second: ChannelPlan) -> dict[str, list[int]]:
    """Joins two plans: `second` is of the network that `first` left, the result of the network before both."""
    return {name: [first[name][channel] for channel in kept] for name, kept in second.items()}


@dataclass(frozen=True)
class _Block:
    """Channels of a group that go together, and their mean score."""

    score: float
    group: str
    channels: list[int]


def _blocks(name: str, scores: Tensor, full: int, config: ChannelPrune) -> list[_Block]:
    """Returns the blocks that a group may lose, in the order in which it loses them."""
    multiple = multiple_of(full, config.round_to)
    least = max(config.min_channels, full - math.floor(full * config.max_group_frac + EPS))
    order = torch.argsort(scores, stable=True)
    blocks: list[_Block] = []
    kept = len(scores)
    while kept - (size := kept % multiple or multiple) >= least:
        channels = order[len(scores) - kept :][:size]
        # The mean never falls along a group, but its last bit may.
        score = max([float(scores[channels].mean()), *(block.score for block in blocks[-1:])])
        blocks.append(_Block(score, name, channels.tolist()))
        kept -= size
    return blocks


def _removed(blocks: Iterable[_Block], left: int) -> dict[str, set[int]]:
    """Chooses `left` channels to go, by group; a last block that does not fit goes if the sum is then nearer."""
    removed: dict[str, set[int]] = defaultdict(set)
    refused: dict[str, _Block] = {}
    for block in sorted(blocks, key=lambda b: b.score):
        if block.group in refused or len(block.channels) > left:
            refused.setdefault(block.group, block)
            continue
        removed[block.group].update(block.channels)
        left -= len(block.channels)
    nearest = min(refused.values(), key=lambda b: (len(b.channels), b.score), default=None)
    if nearest is not None and len(nearest.channels) < 2 * left:
        removed[nearest.group].update(nearest.channels)
    return removed


def _on_cpu(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise Diverged(
                f"the importance of {name} is not finite, so its weights or gradients are not: import intact weights, "
                "or lower the learning rate of what trained them."
            )
    return {name: score.cpu() for name, score in scores.items()}
