"""GPTQ: weights are rounded one input after another, and those to come make up for each error.

Frantar et al., arXiv 2210.17323, with the inputs that a quantized network really gets: before the rounding, weights
move to what gives the float twin's outputs from them (Li et al., arXiv 2504.02692).
"""

import torch
from torch import Tensor

from trainables.models.quantizer import nearest_codes
from trainables.train.moments import Moments, penalty_of

BLOCK = 64
"""Inputs after which errors reach all later ones at once. The result does not depend on it."""


def compensated(weight: Tensor, moments: Moments) -> Tensor:
    """Returns the weights (groups, outputs, K) whose outputs from the layer's inputs are nearest to the float twin's.

    Least squares, with a penalty on how far they move.
    """
    penalty = penalty_of(moments.own, moments.rows)
    moved: Tensor = torch.linalg.solve((moments.own + penalty).mT, (weight @ (moments.cross + penalty)).mT)
    return moved.mT


def rounded(weight: Tensor, step: Tensor, moments: Moments, *, bits: int, keep: Tensor) -> Tensor:
    """Returns the weights on the grid of the signed codes of `bits` times `step`, with a small error in the output.

    Args:
        weight: the weights (groups, outputs, K), float64.
        step: the distance between two codes, (groups, outputs, 1).
        moments: the mean products of the inputs.
        bits: the bits of a code.
        keep: where weights may differ from zero, in the shape of `weight`.
    """
    own = moments.own + penalty_of(moments.own, moments.rows)
    order = own.diagonal(dim1=1, dim2=2).argsort(
        dim=1, descending=True, stable=True
    )  # the inputs that matter most first
    rows = order[:, None].expand_as(weight)
    own = own.gather(1, order[:, :, None].expand_as(own)).gather(2, order[:, None].expand_as(own))
    left, keep, step = weight.gather(2, rows), keep.gather(2, rows), step[..., 0]
    # Row k of this factor says how the later inputs make up for an error at input k.
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(own)), upper=True)
    found, inputs = torch.empty_like(left), left.shape[-1]
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = torch.empty_like(left[..., start:end])
        for k in range(start, end):
            column = left[..., k]
            found[..., k] = nearest_codes(column / step, bits, signed=True) * step * keep[..., k]
            error = (column - found[..., k]) / factor[:, k, k, None]
            left[..., k:end] -= error[..., None] * factor[:, None, k, k:end]
            errors[..., k - start] = error
        left[..., end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(found).scatter_(2, rows, found)
