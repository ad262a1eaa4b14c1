"""Ranges from data: the step size of a symmetric or unsigned uniform quantizer.

Every observer takes values (R, N), the code range [−qn, qp] and the scheme's percentile, and returns one step
for each row, (R,), positive and finite.
"""

import torch
from torch import Tensor

SHARES = torch.linspace(1.1, 0.2, 80)
"""Steps tried by `mse`, as shares of the min-max step: dense enough that a finer grid changes nothing."""
TINY = 1e-8
"""The step of a row of zeros, as small as the smallest one that quantizers use (`MIN_STEP`)."""


def minmax(values: Tensor, qn: int, qp: int, *, percentile: float = 100.0) -> Tensor:
    """Returns the step of each row that covers the largest magnitude."""
    return (values.abs().amax(dim=1) / qp).clamp_min(TINY)


def percentile(values: Tensor, qn: int, qp: int, *, percentile: float = 100.0) -> Tensor:
    """Returns the step of each row that covers this percentage of the magnitudes above zero; the rest is clipped.

    Zeros lie on every grid. Were they counted, a sparse row would be clipped to nothing.
    """
    sizes = values.abs().sort(dim=1).values
    zeros = (sizes == 0).sum(dim=1)
    covered = ((sizes.shape[1] - zeros).double() * percentile / 100).ceil().long().clamp_min(1)
    place = (zeros + covered - 1).clamp_max(sizes.shape[1] - 1)
    return (sizes.gather(1, place[:, None])[:, 0] / qp).clamp_min(TINY)


def mean_magnitude(values: Tensor) -> Tensor:
    """Returns the mean magnitude of each row, (R,): the step of a sign with the least squared error.

    Rastegari et al., arXiv 1603.05279.
    """
    return values.abs().mean(dim=1).clamp_min(TINY)


def mse(values: Tensor, qn: int, qp: int, *, percentile: float = 100.0) -> Tensor:
    """Returns the step of each row with the least squared error among the min-max step and 80 shares of it."""
    widest = minmax(values, qn, qp)
    best, best_error = widest, torch.full_like(widest, torch.inf)
    for share in (1.0, *SHARES.tolist()):
        step = widest * share
        codes = (values / step[:, None]).round_().clamp_(-qn, qp)
        error = (codes * step[:, None] - values).square_().sum(dim=1)
        better = error < best_error
        best, best_error = torch.where(better, step, best), torch.where(better, error, best_error)
    return best
