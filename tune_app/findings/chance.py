"""What is beyond chance: how far two accuracies may lie apart although the networks are equally good."""

import math

ERRORS = 3
"""Standard errors of the difference of two accuracies; chance is as far off in one of a thousand."""


def is_above(share: float, n: int, other: float, n_other: int) -> bool:
    """Whether a fraction of n images lies more than `ERRORS` standard errors above another, taken as independent."""
    variance = share * (1 - share) / n + other * (1 - other) / n_other
    return share - other > ERRORS * math.sqrt(variance)
