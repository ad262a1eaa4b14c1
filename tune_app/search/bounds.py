"""Bounds: refuses points that break a bound by their configuration alone, before a trial is spent on them."""

import functools

from search_spaces.parameters import Coordinates, coordinates
from trainables.config import Architecture
from trainables.errors import InfeasiblePoint
from trainables.results import COUNTED
from tune_app.search.strategy import Bounds
from tune_app.spec.experiment import ExperimentSpec


def open_bounds(spec: ExperimentSpec, architecture: Architecture | None) -> Bounds:
    """Returns what refuses points by the bounds of a spec on counted metrics.

    Every point passes without such bounds, and where the baseline's `architecture` is unknown (None).
    """
    counted = [c for c in spec.constraints if c.metric in COUNTED]
    if not counted or architecture is None:
        return lambda params: ""

    @functools.cache
    def reason(point: Coordinates) -> str:
        from trainables.costs.planned import planned_metrics

        try:
            found = planned_metrics(spec.trial(dict(point)), architecture)
        except InfeasiblePoint as err:
            return str(err)
        broken = [c for c in counted if c.metric in found and c.violation(found[c.metric]) > 0]
        return "; ".join(f"{c.metric} is {found[c.metric]:,}, the bound {c}" for c in broken)

    return lambda params: reason(coordinates(params))
