"""Screen: refuses points that break a bound by their configuration alone, before a trial is spent on them."""

from collections.abc import Callable

from trainables.config import Architecture
from trainables.errors import InfeasiblePoint
from trainables.results import COUNTED
from tune_app.ledger.ledger import Params
from tune_app.spec.experiment import ExperimentSpec

Screen = Callable[[Params], str]
"""Why a point is refused; empty where it is not."""


def open_screen(spec: ExperimentSpec, architecture: Architecture | None) -> Screen:
    """The screen of a spec: of its bounds on counted metrics. Without any, every point passes.

    Args:
        spec: of the experiment.
        architecture: of the baseline; None: unknown, and every point passes.
    """
    bounds = [c for c in spec.constraints if c.metric in COUNTED]
    if not bounds or architecture is None:
        return lambda params: ""
    known: dict[tuple[tuple[str, float | int | str], ...], str] = {}

    def screen(params: Params) -> str:
        point = tuple(sorted(params.items()))
        if point not in known:
            known[point] = _reason(params)
        return known[point]

    def _reason(params: Params) -> str:
        from trainables.costs.planned import planned_metrics

        try:
            found = planned_metrics(spec.trial(params), architecture)
        except InfeasiblePoint as err:
            return str(err)
        broken = [c for c in bounds if c.metric in found and c.violation(found[c.metric]) > 0]
        return "; ".join(f"{c.metric} is {found[c.metric]:,}, the bound {c}" for c in broken)

    return screen
