"""When a search is done: its budget, and what it learns on the way. No clock and no Ray in here."""

from collections.abc import Iterable, Mapping, Sequence

from tune_app.frontier.objectives import costs_of, is_feasible
from tune_app.frontier.pareto import GrowingFrontier
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.training_cost import training_seconds
from tune_app.search.strategy import Outlook
from tune_app.spec.experiment import Budget, ExperimentSpec

MIN_FAILURES = 10
"""Records before the share of failed ones means anything: of fewer, one failure would be a tenth and more."""


MIN_TRIALS = 10
"""Trials of the full schedule before a search may end for its outlook: what few have taught is a guess."""


class Spent:
    """What the budget is compared with: trials, failures, training and hypervolume, fed one record at a time."""

    def __init__(
        self, spec: ExperimentSpec, reference: Mapping[str, float], records: Iterable[TrialRecord] = ()
    ) -> None:
        self._spec = spec
        self._frontier = GrowingFrontier(costs_of(reference, spec))
        self.finished, self.faults, self.trials = 0, 0, 0
        self.training_s = 0.0
        self.volumes: list[float] = []
        """Hypervolume after each trial of the full schedule."""
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Counts a finished trial."""
        self.finished += 1
        self.training_s += training_seconds(record)
        self.faults += record.is_fault
        if not record.assignment.is_trial:
            return
        self.trials += 1
        metrics = record.metrics()
        if is_feasible(metrics, self._spec):
            self._frontier.add(costs_of(metrics, self._spec))
        self.volumes.append(self._frontier.volume)


def why_stop(spent: Spent, budget: Budget, *, wall_s: float) -> str:
    """Says which part of the budget is spent first, in a few words; empty while there is some of everything left.

    Running trials end by themselves: this only says that no new one is to be started. `spent` counts all records of
    the experiment, `wall_s` the seconds since this run began.
    """
    if spent.trials >= budget.trials:
        return f"{spent.trials} trials"
    if late := out_of_time(spent, budget, wall_s=wall_s):
        return late
    still = budget.stagnation
    if still is not None and is_stagnant(spent.volumes, still.trials, still.gain):
        return f"the hypervolume grew by less than {100 * still.gain:g} % in {still.trials} trials"
    return ""


def is_hopeless(spent: Spent, budget: Budget, outlook: Outlook | None) -> bool:
    """Whether the next trials promise less than an hour of training must bring, after MIN_TRIALS at least."""
    if budget.stop_below is None or outlook is None or spent.trials < MIN_TRIALS:
        return False
    return outlook.per_hour < budget.stop_below


def out_of_time(spent: Spent, budget: Budget, *, wall_s: float) -> str:
    """Says which budget of seconds is spent: then repeats do not start either."""
    if budget.wall_s is not None and wall_s >= budget.wall_s:
        return f"{wall_s:,.0f} s of wall time"
    if budget.training_s is not None and spent.training_s >= budget.training_s:
        return f"{spent.training_s:,.0f} s of training"
    return ""


def too_many_failures(spent: Spent, budget: Budget) -> bool:
    """Whether going on would burn the budget on trials that end badly.

    A configuration at chance or without a legal network is an answer like any other: a grid may begin with many.
    """
    return spent.finished >= MIN_FAILURES and spent.faults > budget.failed_share * spent.finished


def is_stagnant(volumes: Sequence[float], trials: int, gain: float) -> bool:
    """Whether the last so many trials made the hypervolume grow by less than a share of what it is."""
    if len(volumes) <= trials:
        return False
    return volumes[-1] - volumes[-1 - trials] < gain * volumes[-1] or volumes[-1] == 0.0
