"""Which points run again with other random numbers, so that the frontier is not made of lucky runs.

Runs go only where they can still change the answer, as in racing (Maron and Moore 1994, "Hoeffding races", NIPS 6),
with the probability of not being dominated in the place of a bound on one loss.
"""

from collections.abc import Collection, Iterable, Sequence

from tune_app.frontier.chance import probabilities
from tune_app.frontier.points import Point, PointRuns, group_runs
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import ExperimentSpec, Repeats


def next_repeat(
    groups: Sequence[PointRuns],
    chances: Sequence[float | None],
    repeats: Repeats,
    *,
    started: Collection[tuple[Point, int]] = (),
) -> tuple[PointRuns, int] | None:
    """Returns which point runs again, and as which repeat; None when no further run is worth it.

    Of the feasible points that may be on the frontier the one with the fewest runs, then the likeliest, then the
    first proposed. A run that failed is a run: it is not tried again.

    `groups` are of all records, `chances` their `probabilities`, `started` the runs without a record yet.
    """
    found: list[tuple[tuple[int, float, int], PointRuns, int]] = []
    for group, chance in zip(groups, chances, strict=True):
        taken = {*group.runs, *(repeat for point, repeat in started if point == group.point)}
        free = next((k for k in range(1, repeats.seeds) if k not in taken), None)
        if free is not None and group.feasible and chance is not None and chance >= repeats.min_probability:
            found.append(((len(taken), -chance, group.first.assignment.number), group, free))
    return min(found, key=lambda each: each[0])[1:] if found else None


def wants_repeats(records: Iterable[TrialRecord], spec: ExperimentSpec) -> bool:
    """Whether some point is worth another run."""
    if spec.repeats is None:
        return False
    found = group_runs(records, spec)
    return next_repeat(found, probabilities(found, spec), spec.repeats) is not None
