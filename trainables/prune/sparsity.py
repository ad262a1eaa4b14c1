"""Which single weights go: scores per weight, and the masks that reach a sparsity."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.config import SPARSITY, LayerGroup
from trainables.errors import Diverged, InfeasiblePoint
from trainables.models.units import Unit, units

SMALL = 10_000
"""Layers below this many weights keep `min_density`: they cost few bytes, and losing them costs accuracy."""


def magnitude(weight: Tensor) -> Tensor:
    """Scores by |w|, in the weight's shape: one threshold for all layers (Han et al., arXiv 1506.02626)."""
    return weight.detach().abs()


def lamp(weight: Tensor) -> Tensor:
    """Scores by w² over the sum of all squares not smaller, in the weight's shape (Lee et al., arXiv 2010.07611).

    The largest weight of each layer scores 1, so no layer loses all of its weights before all others do.
    """
    squares = weight.detach().flatten().square()
    order = torch.argsort(squares, descending=True, stable=True)
    sums = squares[order].double().cumsum(0).to(squares.dtype).clamp_min(torch.finfo(squares.dtype).tiny)
    scores = torch.empty_like(squares)
    scores[order] = squares[order] / sums
    return scores.view_as(weight)


def prunable(model: nn.Module, exempt: Sequence[LayerGroup]) -> dict[str, Unit]:
    """Returns the units whose single weights may go, by name."""
    return {name: unit for name, unit in units(model).items() if unit.role not in exempt}


def make_masks(
    layers: dict[str, Unit], sparsity: float, *, criterion: str = "lamp", min_density: float = 0.0
) -> dict[str, Tensor]:
    """Returns the masks that reach a sparsity, in the shape of each layer's weight: True where it stays.

    Exactly `removed` of the n weights of all layers together go; equal scores: the first ones.

    Raises:
        InfeasiblePoint: the density that small layers keep leaves too few weights to remove.
        Diverged: a score is NaN or infinite.
    """
    score = SPARSITY[criterion]
    scores = [_protected(_finite(score(u.layer.weight), name), min_density).flatten() for name, u in layers.items()]
    flat = torch.cat(scores) if scores else torch.empty(0)
    count = removed(len(flat), sparsity)
    available = int(torch.isfinite(flat).sum())
    if count > available:
        raise InfeasiblePoint(
            f"sparsity {sparsity:g} removes {count:,} weights, but only {available:,} may go: "
            "lower sparsity, min_density or the exempt groups."
        )
    keep = torch.ones_like(flat, dtype=torch.bool)
    keep[torch.argsort(flat, stable=True)[:count]] = False
    parts = keep.split([len(s) for s in scores]) if scores else ()
    return {name: part.view_as(unit.layer.weight) for (name, unit), part in zip(layers.items(), parts, strict=True)}


def removed(weights: int, sparsity: float) -> int:
    """Returns how many of n weights go at a sparsity: floor(n · sparsity)."""
    return math.floor(weights * sparsity + 1e-9)


def _finite(scores: Tensor, name: str) -> Tensor:
    """Returns the scores of a layer, or raises Diverged."""
    if not bool(torch.isfinite(scores).all()):
        raise Diverged(
            f"the scores of {name} are not finite, so its weights are not: lower the learning rate, or import intact "
            "weights."
        )
    return scores


def _protected(scores: Tensor, min_density: float) -> Tensor:
    """Makes the best `min_density` of a small layer's scores infinite: these weights are never removed."""
    if scores.numel() >= SMALL or min_density == 0:
        return scores
    kept = math.ceil(scores.numel() * min_density)
    flat = scores.flatten().clone()
    flat[torch.argsort(flat, descending=True, stable=True)[:kept]] = torch.inf
    return flat.view_as(scores)
