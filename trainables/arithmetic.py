"""Powers, logarithms and sums that every processor rounds alike; torch-free, float64.

IEEE 754 fixes each bit of +, −, ×, / and of square roots. It leaves the last bit of exp and log to each library: MKL,
which torch calls, takes it from another path on each kind of processor, and the order in which a reduction adds up
follows the width of its registers. What goes into a packed file, or comes out of one, is computed with these functions,
so that the same network gives the same bytes everywhere.

numpy rounds after each of its operations: none of them becomes part of a fused multiply-add.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

LN2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
FARTHEST = 2_000
"""Exponents beyond it give 0 or infinity like this one."""
EXP_TERMS = tuple(1 / math.factorial(n) for n in range(14))
"""Of Σ r^n / n!: at |r| ≤ ln 2 / 2 the next term is below 2^−57."""
ATANH_TERMS = tuple(1 / (2 * n + 1) for n in range(12))
"""Of Σ z^2n / (2n + 1): at |z| ≤ 0.172 the next term is below 2^−65."""


def exp2(x: ArrayLike) -> np.ndarray:
    """2^x within two units in the last place, exact where x is whole; NaN where x is not finite."""
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.rint(x)
        part = _polynomial((x - whole) * LN2, EXP_TERMS)
        powers: np.ndarray = np.ldexp(part, whole.clip(-FARTHEST, FARTHEST).astype(np.int32))
    return powers


def log2(x: ArrayLike) -> np.ndarray:
    """The logarithm of positive finite numbers, within four units in the last place; exact at powers of 2."""
    part, power = np.frexp(np.asarray(x, np.float64))
    low = part < SQRT_HALF
    part = np.where(low, 2 * part, part)
    logarithms: np.ndarray = power - low + _log2_ratio((part - 1) / (part + 1))
    return logarithms


def log2_1m(x: float) -> float:
    """log2(1 − x) for 0 ≤ x < 1, with all its digits where x is next to nothing too."""
    return float(_log2_ratio(np.array(-x / (2 - x))) if x < 0.25 else log2(1 - x))


def total(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The sum along an axis, one value after the other; 0 where there are none."""
    values = np.asarray(values, np.float64)
    empty = values.shape[axis] == 0
    found: np.ndarray = values.sum(axis=axis) if empty else np.take(np.cumsum(values, axis=axis), -1, axis=axis)
    return found


def _log2_ratio(z: np.ndarray) -> np.ndarray:
    """log2((1 + z) / (1 − z)) = 2/ln 2 · artanh(z) for |z| ≤ 0.172."""
    logarithms: np.ndarray = (2 / LN2) * (z * _polynomial(z * z, ATANH_TERMS))
    return logarithms


def _polynomial(x: np.ndarray, terms: tuple[float, ...]) -> np.ndarray:
    """Horner's rule, the lowest power first in `terms`."""
    found = np.full_like(x, terms[-1])
    for term in reversed(terms[:-1]):
        found *= x
        found += term
    return found
