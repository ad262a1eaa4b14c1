"""The gain of a hypervolume by one more point (NumPy only). Costs: lower is better."""

import numpy as np

from tune_app.frontier.pareto import non_dominated

PROBES = 2_000
"""Random points that stand for the volume of three objectives: more of them take longer and blur a gain less."""


def improvement(front: np.ndarray, reference: np.ndarray, samples: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns what each sample, (..., k), alone would add to the hypervolume of a front, (m, k), up to a reference.

    The gains, (...,) in the product of the units, are exact for one and two objectives; for three they are the share of
    PROBES points of the box that a sample dominates and the front does not, the same probes for all samples. The front
    may have any rows; those outside the reference, (k,), count nothing.

    Raises:
        ValueError: more than three objectives.
    """
    k = len(reference)
    if k > 3:
        raise ValueError(f"improvement is computed for at most 3 objectives, but got {k}")
    inside = front[(front < reference).all(axis=1)].reshape(-1, k)
    inside = inside[non_dominated(inside)]
    if k == 3:
        return _of_probes(inside, reference, samples, seed)
    if k == 1:  # one unit wide
        inside = np.c_[inside, np.zeros(len(inside))]
        reference = np.r_[reference, 1.0]
        samples = np.concatenate([samples, np.zeros((*samples.shape[:-1], 1))], axis=-1)
    return _of_strips(inside, reference, samples)


def _of_strips(front: np.ndarray, reference: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Computes gains exactly: the free area lies in strips between points, of which a sample takes rectangles."""
    front = front[np.argsort(front[:, 0])]
    begins = np.r_[-np.inf, front[:, 0]]
    ends = np.r_[front[:, 0], reference[0]]
    ceilings = np.r_[reference[1], front[:, 1]]
    widths = np.clip(ends - np.maximum(begins, samples[..., :1]), 0.0, None)
    heights = np.clip(ceilings - samples[..., 1:], 0.0, None)
    area: np.ndarray = (widths * heights).sum(axis=-1)
    return area


def _of_probes(front: np.ndarray, reference: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    flat = samples.reshape(-1, len(reference))
    low = np.minimum(flat.min(axis=0), reference) if len(flat) else reference
    probes = low + np.random.default_rng(seed).random((PROBES, len(reference))) * (reference - low)
    for row in front:
        probes = probes[~(row <= probes).all(axis=1)]
    taken = np.array([(row <= probes).all(axis=1).sum() for row in flat], dtype=np.float64)
    volume: np.ndarray = (taken * np.prod(reference - low) / PROBES).reshape(samples.shape[:-1])
    return volume
