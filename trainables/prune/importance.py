"""Importance criteria: a score for each channel of each prune group; the lowest go first."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.graph.channels import Coupled
from trainables.models.model import Model
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import ConvUnit, Unit, evaluating, norm_of, units

Batch = tuple[Tensor, Tensor]
"""Images (N, C, S, S) float32 and labels (N,) int64."""

SIDE_BYTES = 4
"""Bytes of the 16-bit multiplier and the 16-bit bias that a packed layer has for each output channel."""


class Score(Protocol):
    """A function that scores the channels of groups and leaves the model as it is."""

    def __call__(
        self, model: Model, groups: Sequence[PruneGroup], *, batches: Iterable[Batch], seed: int
    ) -> dict[str, Tensor]:
        """Returns scores (channels,) float32 by group name, at least 0; the lowest channels go first.

        Whatever is random follows `seed`; `batches` are training images without augmentation.
        """
        ...


@dataclass(frozen=True)
class Criterion:
    """A criterion: `score` orders the channels of one group, `compare` makes scores of different groups comparable."""

    score: Score
    compare: Callable[[Model, PruneGroup, Tensor], Tensor]


def of_filters(norm: Callable[[Tensor], Tensor]) -> Criterion:
    """Makes a criterion of a norm of filters, (filters, weights) → (filters,); a decorator.

    A channel that several layers make has the sum of its filters' scores; depthwise filters go with their input's.
    """

    def score(model: Model, groups: Sequence[PruneGroup], *, batches: Iterable[Batch], seed: int) -> dict[str, Tensor]:
        layers = units(model)
        return {
            group.name: sum_by_channel(
                group, {name: norm(unit.layer.weight.detach().flatten(1)) for name, unit in made.items()}
            )
            for group in groups
            for made in [_makers(group, layers)]
        }

    return Criterion(score, by_mean)


def sum_by_channel(group: PruneGroup, scores: Mapping[str, Tensor]) -> Tensor:
    """Returns the score of each channel, (channels,): the sum over the filters or scales that it has in some units."""
    found = [_sums(scores[part.node], part.positions) for part in group.sources if part.node in scores]
    return torch.stack(found).sum(dim=0)


def _sums(values: Tensor, positions: Sequence[Sequence[int]]) -> Tensor:
    """Returns the sum of values, (places,), over the places of each channel; some may have more places than others."""
    most = max(map(len, positions))
    padded = [[*places, *[len(values)] * (most - len(places))] for places in positions]
    return torch.cat([values, values.new_zeros(1)])[torch.tensor(padded, device=values.device)].sum(dim=1)


def _makers(group: PruneGroup, layers: Mapping[str, Unit]) -> dict[str, Unit]:
    """Returns the units that make a group's channels; depthwise ones pass them on, unless there are no others."""
    sources = {part.node: layers[part.node] for part in group.sources if part.node in layers}
    full = {name: unit for name, unit in sources.items() if not (isinstance(unit, ConvUnit) and unit.depthwise)}
    return full or sources


def by_mean(model: Model, group: PruneGroup, scores: Tensor) -> Tensor:
    """Returns scores as multiples of their group's mean, since norms grow with the weights per filter.

    The usual normalization of magnitudes for a global ranking (Fang et al., DepGraph, arXiv 2301.12900, code).
    """
    return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)


def by_byte(model: Model, group: PruneGroup, scores: Tensor) -> Tensor:
    """Returns scores per byte that the removal of a channel saves."""
    return scores / channel_bytes(model, group)


def unchanged(model: Model, group: PruneGroup, scores: Tensor) -> Tensor:
    """Returns scores as they are, for those that are comparable already."""
    return scores


def channel_bytes(model: Model, group: PruneGroup) -> float:
    """Counts the bytes that one channel costs in a packed file, at 8 bits per weight and with its side information.

    It is the mean over the channels, of which some may lie at more places than others.
    """
    layers = units(model)
    total = 0.0
    for part in group.sources:
        if part.node in layers:
            total += _places(part) * (layers[part.node].layer.weight[0].numel() + SIDE_BYTES)
    for part in group.sinks:
        total += _places(part) * layers[part.node].layer.weight[:, 0].numel()
    return total


def _places(part: Coupled) -> float:
    """Returns at how many places of a unit a channel lies, in the mean."""
    return sum(map(len, part.positions)) / len(part.positions)


@of_filters
def l1(filters: Tensor) -> Tensor:
    """Returns the sum of absolute weights of each filter (Li et al., arXiv 1608.08710)."""
    return filters.abs().sum(dim=1)


@of_filters
def l2(filters: Tensor) -> Tensor:
    """Returns the Euclidean norm of each filter (He et al., arXiv 1808.06866)."""
    return filters.square().sum(dim=1).sqrt()


@functools.partial(Criterion, compare=by_byte)
def bn_taylor(model: Model, groups: Sequence[PruneGroup], *, batches: Iterable[Batch], seed: int) -> dict[str, Tensor]:
    """Scores by the mean over batches of (γ · ∂L/∂γ)², summed over a group's batch norms; L is the cross-entropy.

    The first-order change of the loss when a channel's scale goes to zero, squared: Taylor-FO-BN of Molchanov
    et al. (arXiv 1906.10771) without the shift. Batch norm uses its running statistics. In a hidden linear layer,
    which has no γ, Σ w · ∂L/∂w over a row of weights is the same derivative.
    """
    layers = units(model)
    named = {part.node: _scale(layers[part.node]) for g in groups for part in g.sources if part.node in layers}
    flat = list(named.values())
    sums = {scale: scale.new_zeros(len(scale)) for scale in flat}
    count = 0
    with evaluating(model):
        for images, labels in batches:
            gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), flat)
            for scale, gradient in zip(flat, gradients, strict=True):
                sums[scale] += (scale.detach() * gradient).reshape(len(scale), -1).sum(dim=1).square()
            count += 1
    assert count, "this criterion needs images"
    scores = {name: sums[scale] / count for name, scale in named.items()}
    return {group.name: sum_by_channel(group, scores) for group in groups}


@functools.partial(Criterion, compare=unchanged)
def random(model: Model, groups: Sequence[PruneGroup], *, batches: Iterable[Batch], seed: int) -> dict[str, Tensor]:
    """Scores uniformly in (0, 1], the control that a criterion has to beat; filters of zeros score 0.

    The draws are dealt out in the order of the filters' norms, so a channel keeps its draw wherever it stands.
    """
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for name, norms in l1.score(model, groups, batches=batches, seed=seed).items():
        draws = 1 - torch.rand(len(norms), generator=generator)
        ranks = torch.argsort(torch.argsort(norms, stable=True))
        scores[name] = draws.to(norms.device)[ranks] * (norms > 0)
    return scores


def _scale(unit: Unit) -> Tensor:
    """Returns the parameter whose rows scale the channels: γ, or the weight of a layer without batch norm."""
    norm = norm_of(unit)
    return unit.layer.weight if norm is None else norm.weight
