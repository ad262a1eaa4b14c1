"""What is beyond chance: how far two accuracies may lie apart although the networks are equally good."""

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""How many standard errors from the middle an interval of 95 % ends."""
ERRORS = 3
"""Standard errors of the difference of two accuracies; chance is as far off in one of a thousand."""


def is_above(share: float, n: int, other: float, n_other: int) -> bool:
    """Whether a fraction of n images lies more than `ERRORS` standard errors above another, taken as independent."""
    variance = share * (1 - share) / n + other * (1 - other) / n_other
    return share - other > ERRORS * math.sqrt(variance)


def interval(share: float, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of the share of all images of which a share of n was right.

    It is Wilson's (1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22), which is
    never empty, and stays between 0 and 1.
    """
    middle, weight = share + Z * Z / (2 * n), 1 + Z * Z / n
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, (middle - half) / weight), min(1.0, (middle + half) / weight)


def is_noise(change: float, share: float, n: int) -> bool:
    """Whether an accuracy that changed by so much to a share of n images lies within its interval."""
    low, high = interval(share, n)
    return low <= share - change <= high
